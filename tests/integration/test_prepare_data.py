"""Splitting data sets: what comes out, and what is said of data that cannot be split."""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import gzip
import hashlib
import io
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from consumer.jobs import PreparedData, PrepareFailed
from consumer.parts import open_part
from consumer.preparation import prepare
from consumer.preparation.prepare import prepare_dataset
from schemas.datasets import Custom, HoldOut, Split
from schemas.messages import DataMessage
from schemas.states import Culprit, FailureKind, Isolation, Phase, Visibility
from schemas.verdicts import Verdict
from tests.support.strict import strict_if_required

Content = str | bytes
ISOLATION = strict_if_required()


class Case:
    """A data set to be split, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, Content],
        *,
        elements: str = "classifier",
        target: str | None = "y",
        split: Split | None = None,
    ) -> None:
        self.raw, self.out = folder / "raw", folder / "out"
        self.raw.mkdir(parents=True)
        self.out.mkdir()
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (self.raw / name).write_bytes(data)
        self.message = DataMessage(
            name="data",
            target_column=target,
            workflow_elements=elements,
            files=dict.fromkeys(files, ""),
            split=split or HoldOut(0.5, random_state=42),
        )

    def run(self, *, wall: float = 60, memory: int = 2 << 30) -> PreparedData:
        return asyncio.run(
            prepare_dataset(
                self.message,
                self.raw,
                self.out,
                isolation=ISOLATION,
                wall_seconds=wall,
                memory_bytes=memory,
            )
        )

    def fail(self, **limits: Any) -> PrepareFailed:
        with pytest.raises(PrepareFailed) as raised:
            self.run(**limits)
        return raised.value


def command_of(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def value(prepared: PreparedData, name: str) -> Any:
    (part,) = [part for part in prepared.parts if part.name == name]
    assert part.format != "file"
    with part.path.open("rb") as file:
        return open_part(file.fileno(), part.format)


def digests(prepared: PreparedData) -> list[str]:
    return [hashlib.sha256(part.path.read_bytes()).hexdigest() for part in prepared.parts]


def csv_of(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False)


NUMBERS = csv_of(
    pd.DataFrame({"a": np.arange(20), "b": np.arange(20) / 4, "y": ["no", "yes"] * 10})
)
MIXED = csv_of(
    pd.DataFrame(
        {
            "colour": ["red", "blüe"] * 10,
            "size": range(20),
            "big": [True, False] * 10,
            "y": [0, 1] * 10,
        }
    )
)


def test_iris_is_split_as_in_2016(tmp_path: Path) -> None:
    # Given iris as a CSV file
    iris = load_iris(as_frame=True)
    frame = iris.data.assign(species=[str(iris.target_names[i]) for i in iris.target])
    case = Case(tmp_path, {"iris.csv": csv_of(frame)}, target="species")

    # When it is split
    prepared = case.run()

    # Then rows, columns and classes are those of train_test_split
    train, test = train_test_split(frame, test_size=0.5, random_state=42)
    assert (prepared.n_train, prepared.n_test) == (75, 75)
    assert prepared.columns == tuple(iris.data.columns)
    assert prepared.classes is not None
    assert prepared.classes.tolist() == ["setosa", "versicolor", "virginica"]
    assert value(prepared, "X_train") == pytest.approx(train.drop(columns="species").to_numpy())
    assert value(prepared, "y_train").tolist() == train["species"].tolist()
    assert value(prepared, "X_test") == pytest.approx(test.drop(columns="species").to_numpy())
    assert value(prepared, "y_test").tolist() == test["species"].tolist()
    assert {part.name: part.visibility for part in prepared.parts} == {
        "X_train": Visibility.PUBLIC,
        "y_train": Visibility.PUBLIC,
        "X_test": Visibility.PUBLIC,
        "y_test": Visibility.SECRET,
    }
    assert sorted(path.name for path in case.out.iterdir()) == sorted(
        part.path.name for part in prepared.parts
    )


def test_same_table_gives_the_same_bytes_however_it_is_compressed(tmp_path: Path) -> None:
    # Given a table of numbers, as text and compressed
    content = NUMBERS.encode()
    files: dict[str, bytes] = {
        "data.csv": content,
        "data.csv.gz": gzip.compress(content),
        "data.csv.bz2": bz2.compress(content),
        "data.csv.zip": zipped(content),
    }

    # When each is split
    split = [Case(tmp_path / name, {name: file}).run() for name, file in files.items()]

    # Then all parts are the same, and numbers have a common type
    assert len({tuple(digests(prepared)) for prepared in split}) == 1
    assert split[0].n_train == 10
    assert value(split[0], "X_train").dtype == np.float64
    assert value(split[0], "y_train").dtype == np.dtype("<U3")


def test_feature_extractor_keeps_the_data_frame(tmp_path: Path) -> None:
    # Given text, integers and booleans for a feature extractor
    cases = [
        Case(tmp_path / name, {"data.csv": MIXED}, elements="feature_extractor, classifier")
        for name in "ab"
    ]

    # When they are split
    prepared, again = (case.run() for case in cases)

    # Then X is the data frame that pandas reads
    train, _ = train_test_split(pd.read_csv(io.StringIO(MIXED)), test_size=0.5, random_state=42)
    expected = train.drop(columns="y").reset_index(drop=True)
    pd.testing.assert_frame_equal(value(prepared, "X_train"), expected)
    assert prepared.columns == ("colour", "size", "big")
    assert prepared.classes is not None
    assert prepared.classes.tolist() == [0, 1]

    # And each time the same bytes
    assert digests(prepared) == digests(again)


def test_regressor_has_no_classes(tmp_path: Path) -> None:
    text = csv_of(pd.DataFrame({"a": np.arange(20), "y": np.arange(20) / 3}))

    prepared = Case(tmp_path, {"data.csv": text}, elements="regressor").run()

    assert prepared.classes is None
    assert value(prepared, "y_train").dtype == np.float64


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.csv", content)
    return buffer.getvalue()


def test_file_that_is_not_what_its_suffix_says(tmp_path: Path) -> None:
    verdict = Case(tmp_path, {"data.csv.gz": NUMBERS}).fail().verdict

    assert verdict.message.startswith("data.csv.gz cannot be read: Not a gzipped file")
    assert (verdict.phase, verdict.kind, verdict.culprit) == (
        Phase.DATA,
        FailureKind.DATA,
        Culprit.ORGANISER,
    )


SPECIFIC = """
import os
import pandas as pd
from sklearn.model_selection import train_test_split
from shared import COLUMN

def prepare_data(raw_data_path):
    print("preparing")
    frame = pd.read_csv(os.path.join(raw_data_path, "series.csv"))
    train, test = train_test_split(frame, test_size=0.4, random_state=1)
    train.to_csv(os.path.join(raw_data_path, "train.csv"), index=False)
    test.to_csv(os.path.join(raw_data_path, "test.csv"), index=False)

def read(raw_data_path, name):
    frame = pd.read_csv(os.path.join(raw_data_path, name))
    X = [pd.Series(row) for row in frame.drop(columns=COLUMN).to_numpy()]
    return X, frame[COLUMN].to_numpy()

def get_train_data(raw_data_path):
    return read(raw_data_path, "train.csv")

def get_test_data(raw_data_path):
    return read(raw_data_path, "test.csv")

def train_submission(module_path, X, y, train_indices): ...
def test_submission(trained_model, X, test_indices): ...
"""


def custom(folder: Path, code: str = SPECIFIC, **options: Any) -> Case:
    return Case(
        folder,
        {"specific.py": code, "shared.py": "COLUMN = 'y'", "series.csv": NUMBERS},
        split=Custom("specific.py"),
        target=None,
        **options,
    )


def test_custom_code_splits_into_a_list_of_series(tmp_path: Path) -> None:
    # Given an organiser's code, its sibling, and its data
    # When it is run
    prepared = custom(tmp_path).run()

    # Then X is what it returned, and only its code goes along
    assert (prepared.n_train, prepared.n_test, prepared.columns) == (12, 8, None)
    assert prepared.classes is not None
    assert prepared.classes.tolist() == ["no", "yes"]
    x = value(prepared, "X_train")
    assert len(x) == 12
    assert isinstance(x[0], pd.Series)
    assert {part.name for part in prepared.parts} == {
        "X_train",
        "y_train",
        "X_test",
        "y_test",
        "specific.py",
        "shared.py",
    }
    assert prepared.output.stdout == "preparing\n"
    assert digests(prepared) == digests(custom(tmp_path / "again").run())


def test_custom_numbers_are_not_pickled(tmp_path: Path) -> None:
    code = SPECIFIC.replace(
        "[pd.Series(row) for row in frame.drop(columns=COLUMN).to_numpy()]",
        "frame.drop(columns=COLUMN).to_numpy()",
    )

    prepared = custom(tmp_path, code).run()

    assert {part.format for part in prepared.parts} == {"npy", "file"}


@pytest.mark.parametrize(
    ("old", "new", "message", "kind"),
    [
        ("def get_test_data", "def get_testing_data",
         "specific.py lacks the function get_test_data", FailureKind.DATA),
        ("from shared import", "from shard import",
         "ModuleNotFoundError: No module named 'shard'", FailureKind.EXCEPTION),
        ("def prepare_data(", "def prepare_data((",
         "SyntaxError: ", FailureKind.EXCEPTION),
    ],
)  # fmt: skip
def test_custom_code_that_fails(
    tmp_path: Path, old: str, new: str, message: str, kind: FailureKind
) -> None:
    assert old in SPECIFIC

    verdict = custom(tmp_path, SPECIFIC.replace(old, new)).fail().verdict

    assert verdict.message.startswith(message), verdict
    assert (verdict.phase, verdict.kind, verdict.culprit) == (
        Phase.DATA,
        kind,
        Culprit.ORGANISER,
    )


def test_exception_shows_the_organisers_frames_and_what_was_printed(tmp_path: Path) -> None:
    code = SPECIFIC.replace("frame = pd.read_csv(", "frame = pd.read_csv('missing' + ", 1)

    failed = custom(tmp_path, code).fail()

    assert "FileNotFoundError" in failed.verdict.message
    assert 'File "specific.py", line 9, in prepare_data' in failed.verdict.traceback
    assert "pandas" not in failed.verdict.traceback
    assert failed.output.stdout == "preparing\n"


def prepare_with(folder: Path, statement: str) -> Case:
    return custom(folder, SPECIFIC.replace('print("preparing")', statement))


def said(verdict: Verdict) -> tuple[str, FailureKind, Culprit]:
    return verdict.message, verdict.kind, verdict.culprit


def test_wall_limit_stops_everything_that_was_started(tmp_path: Path) -> None:
    # Its pid in there would be another one than here
    seconds = f"600.{secrets.randbelow(10**9):09}"
    case = prepare_with(
        tmp_path,
        f"import time, subprocess; subprocess.Popen(['sleep', {seconds!r}]); time.sleep(600)",
    )

    verdict = case.fail(wall=5).verdict

    assert said(verdict) == (
        "timeout: 5.0 s wall in data", FailureKind.TIMEOUT, Culprit.ORGANISER,
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
