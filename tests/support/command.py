"""The `datarun` command as a person uses it: in a folder of one's own, with nothing configured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from broker.private_node import NodeAddress
from broker.users import keep_urls
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost, new_vhost

ROOT = Path(__file__).parents[2]
DATARUN = [sys.executable, "-m", "datarun"]


def environment(**more: str) -> dict[str, str]:
    """This process's, with our tree importable, and without what a stranger's has not.

    That is what configures datarun, and Python: one that does not buffer hides what happens when
    buffers are flushed.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DATARUN_", "PYTHON"))
    }
    return {**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **more}


class Folder:
    """Runs commands in one folder, whose `.datarun` is the home of its stack."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path / ".datarun"

    def run(
        self, *arguments: str, timeout: float = 90, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """A command that ends, whatever its exit status."""
        return subprocess.run(
            [*DATARUN, *arguments],
            cwd=self.path,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def succeed(self, *arguments: str, timeout: float = 90, **settings: str) -> str:
        """What a command printed on stdout; AssertionError when it fails."""
        done = self.run(*arguments, timeout=timeout, **settings)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def json(self, *arguments: str, timeout: float = 90, **settings: str) -> Any:
        """The one document that a command printed with --json."""
        return json.loads(self.succeed(*arguments, "--json", timeout=timeout, **settings))

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """A command that goes on, in a process group of its own, as in a terminal."""
        return subprocess.Popen(
            [*DATARUN, *arguments],
            cwd=self.path,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def up(self, *arguments: str, **settings: str) -> Any:
        """`datarun up --detach`, which is ready when this returns."""
        return self.json("up", "--detach", *arguments, **settings)

    def connection(self) -> dict[str, Any]:
        """What connection.toml says."""
        return tomllib.loads((self.home / "connection.toml").read_text(encoding="utf-8"))

    def pids(self) -> dict[str, int]:
        """The services' process ids, by name."""
        return dict(self.connection()["pids"])

    def publish_iris(self) -> Any:
        """The data set `iris`, ready for submissions with a classifier."""
        from datarun.demo.datasets import write_iris

        csv = write_iris(self.path)
        return self.json("data", "publish", "iris", csv.name, "--target", "species")

    def submission(self, name: str, files: Mapping[str, str]) -> str:
        """A folder with these files."""
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        return name

    def logs(self) -> str:
        """The end of every log, for a failed test's message."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
            for log in sorted(self.home.glob("logs/*.log"))
        )

    def processes(self) -> dict[int, str]:
        """Everything alive that belongs to the stack: it names this folder, or works in it."""
        return processes_of(self.path)


def processes_of(folder: Path) -> dict[int, str]:
    """Process id -> command of whatever has `folder` in its arguments, environment or files."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            traces = [
                *process.cmdline(),
                *process.environ().values(),
                process.cwd(),
                *(file.path for file in process.open_files()),
            ]
            if any(str(folder) in trace for trace in traces):
                found[process.pid] = " ".join(process.cmdline())
    return found


def wait_until_nothing_is_left(folder: Path, within: float = 30) -> None:
    """AssertionError that names what is."""
    wait_until(
        lambda: not processes_of(folder),
        within=within,
        what=f"the end of {processes_of(folder)}",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A folder with nothing in it; whatever a test leaves running there is killed."""
    made = Folder(tmp_path)
    yield made
    _clear(made)


@contextmanager
def stack_in(path: Path, **settings: str) -> Iterator[Folder]:
    """A folder with a stack that has two slots; it is killed afterwards.

    It starts a RabbitMQ of its own, which takes as long as all the rest, unless settings name one.
    """
    made = Folder(path)
    try:
        made.up("--slots", "2", **settings)
        yield made
    finally:
        _clear(made)


@pytest.fixture(scope="module")
def running(rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A folder with a stack on the RabbitMQ that all tests share, for all tests of a module."""
    folder = tmp_path_factory.mktemp("running")
    with new_vhost(rabbitmq) as vhost, stack_in(folder, **given(vhost, folder)) as made:
        yield made


def given(vhost: Vhost, folder: Path) -> dict[str, str]:
    """Settings of a stack in `folder` that is given this virtual host, as good as a RabbitMQ of its
    own: its services log in as their users, as after `datarun broker users`."""
    keep_urls(folder / ".datarun", vhost.logins.users)
    return {"DATARUN_BROKER": vhost.admin_url, "DATARUN_CONSUMER_TIMEOUT_RAISED": "true"}


def _clear(made: Folder) -> None:
    for pid in made.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
