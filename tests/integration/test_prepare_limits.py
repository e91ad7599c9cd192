"""Code of an organiser that takes too much, dies, is stopped, or would see what it must not."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path

import psutil
import pytest

from consumer.preparation import prepare
from consumer.preparation.prepare import prepare_dataset
from schemas.states import Culprit, FailureKind, Isolation
from schemas.verdicts import Verdict
from tests.support.split_case import (
    ISOLATION,
    prepare_with,
)


def command_of(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def said(verdict: Verdict) -> tuple[str, FailureKind, Culprit]:
    return verdict.message, verdict.kind, verdict.culprit


def test_wall_limit_stops_everything_that_was_started(tmp_path: Path) -> None:
    # Its pid in there would be another one than here
    seconds = f"600.{secrets.randbelow(10**9):09}"
    case = prepare_with(
        tmp_path,
        f"import time, subprocess; subprocess.Popen(['sleep', {seconds!r}]); time.sleep(600)",
    )

    verdict = case.fail(wall=3).verdict

    assert said(verdict) == (
        "timeout: 3.0 s wall in data", FailureKind.TIMEOUT, Culprit.ORGANISER,
    )  # fmt: skip
    assert not [process for process in psutil.process_iter() if seconds in command_of(process)]


def test_memory_limit(tmp_path: Path) -> None:
    case = prepare_with(tmp_path, "import time; a = b'x' * (700 << 20); time.sleep(600)")

    verdict = case.fail(memory=500 << 20).verdict

    assert verdict.kind is FailureKind.MEMORY
    assert "of 500.0 MiB in data" in verdict.message


def test_limit_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a limit that one machine can reach, and code that starts more threads than that
    monkeypatch.setattr(prepare, "_PROCESSES", 16)
    start = "threading.Thread(target=time.sleep, args=(60,)).start()"
    case = prepare_with(
        tmp_path, f"import threading, time; [{start} for _ in range(30)]; time.sleep(60)"
    )

    # Then it is ended, and told which limit it met
    verdict = case.fail().verdict
    assert verdict.culprit is Culprit.ORGANISER
    assert "processes and threads, 16 allowed, in data" in verdict.message


def test_process_that_dies(tmp_path: Path) -> None:
    verdict = prepare_with(tmp_path, "os.abort()").fail().verdict

    assert said(verdict) == ("crashed: SIGABRT in data", FailureKind.CRASHED, Culprit.ORGANISER)


def test_organisers_code_sees_no_secrets_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATARUN_BROKER", "amqp://secret")
    case = prepare_with(tmp_path, "print(dict(os.environ), open('/proc/self/environ').read())")

    assert "secret" not in case.run().output.stdout


def test_cancelled_preparation_leaves_nothing_running(tmp_path: Path) -> None:
    # Given a preparation that sleeps
    pid_file = tmp_path / "pid"
    case = prepare_with(
        tmp_path,
        f"import time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)",
    )

    async def cancel_when_it_runs() -> None:
        task = asyncio.create_task(
            prepare_dataset(
                case.message,
                case.raw,
                case.out,
                isolation=Isolation.PROCESS,
                wall_seconds=600,
                memory_bytes=2 << 30,
            )
        )
        async with asyncio.timeout(30):
            while not (pid_file.exists() and pid_file.read_text()):
                await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # When it is cancelled
    asyncio.run(cancel_when_it_runs())

    # Then its process is gone
    assert not psutil.pid_exists(int(pid_file.read_text()))


LINKS = """
import json, os, pathlib, struct
import numpy as np
out = pathlib.Path(OUT)
for name in ("X_train", "X_test", "y_train", "y_test", "classes"):
    np.save(out / f"{name}.npy", np.zeros(4))
(out / LINKED).unlink(missing_ok=True)
(out / LINKED).symlink_to("/etc/hostname")
part = {"format": "npy", "visibility": "public"}
names = ("X_train", "X_test", "y_train", "y_test")
report = {"n_train": 4, "n_test": 4, "columns": None, "has_classes": True,
          "parts": [{"name": name, **part} for name in names if f"{name}.npy" != LINKED]}
said = json.dumps(report).encode()
os.write(3, struct.pack(">BQ", 7, len(said)) + said)
os._exit(0)
"""


@pytest.mark.parametrize("linked", ["y_train.npy", "classes.npy"])
def test_what_is_written_is_no_link_to_a_file_of_the_worker(tmp_path: Path, linked: str) -> None:
    # Given an organiser whose code says that it has split, and leaves a link among the parts
    folder = "/data/out" if ISOLATION is Isolation.STRICT else str(tmp_path / "out")
    code = LINKS.replace("OUT", repr(folder)).replace("LINKED", repr(linked))
    case = prepare_with(tmp_path, f"exec({code!r}, {{}})")

    # When the worker looks at the parts, then it does not follow it
    failed = case.fail()
    assert failed.verdict.message == f"{linked} was not written as a file", failed.output
