"""A warm executor, and data sets and jobs for it, without a broker."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import textwrap
import threading
import uuid
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
import pytest
from sklearn.datasets import load_iris

from consumer.execution.executor import FoldExecutor
from consumer.jobs import FoldJob, FoldOutcome, ResolvedLimits
from consumer.parts import write_npy, write_pickle
from schemas.arrays import Array
from schemas.datasets import Custom, HoldOut, Manifest, Part, Split
from schemas.events import Measurements
from schemas.states import FoldState, Isolation, Visibility
from tests.support.strict import strict_if_required

SLOTS = 2
Result = TypeVar("Result")
_numbers = itertools.count()


@dataclass(frozen=True)
class Dataset:
    """Parts in a folder, as the cache has them."""

    manifest: Manifest
    folder: Path


def make_dataset(
    folder: Path,
    x: tuple[Any, Any],
    y_train: npt.NDArray[Any],
    *,
    elements: str = "classifier",
    classes: npt.NDArray[Any] | None = None,
    columns: tuple[str, ...] | None = None,
    split: Split | None = None,
    code: Mapping[str, str] | None = None,
) -> Dataset:
    """x: of training and test rows; arrays become npy parts, anything else pickles."""
    folder.mkdir(parents=True)
    x_format = "npy" if isinstance(x[0], np.ndarray) else "pickle"
    write = write_npy if x_format == "npy" else write_pickle
    names = [("X_train", x_format), ("X_test", x_format), ("y_train", "npy")]
    write(folder / f"X_train.{x_format}", x[0])
    write(folder / f"X_test.{x_format}", x[1])
    write_npy(folder / "y_train.npy", y_train)
    for name, text in (code or {}).items():
        (folder / name).write_text(textwrap.dedent(text))
        names.append((name, "file"))
    parts = tuple(
        Part(
            name=name,
            format=part_format,
            visibility=Visibility.PUBLIC,
            size=0,
            sha256="0" * 64,
            blob=uuid.uuid4().hex,
        )
        for name, part_format in names
    )
    manifest = Manifest(
        name="data",
        target_column="y",
        workflow_elements=elements,
        split=split or HoldOut(0.5, 42),
        n_train=len(x[0]),
        n_test=len(x[1]),
        columns=columns,
        classes=None if classes is None else Array.of(classes),
        parts=parts,
    )
    return Dataset(manifest, folder)


def make_iris(folder: Path, elements: str = "classifier") -> Dataset:
    """75 training and 75 test rows, 25 of each class."""
    x, y = load_iris(return_X_y=True)
    columns = ("sepal length", "sepal width", "petal length", "petal width")
    return make_dataset(
        folder,
        (x[::2], x[1::2]),
        y[::2],
        elements=elements,
        classes=np.arange(3),
        columns=columns,
    )


def make_custom(folder: Path, code: str, *, elements: str = "classifier", **more: Any) -> Dataset:
    """X is a list of pandas Series of different lengths; the label is whether one rises."""
    labels = np.arange(20) % 2
    series = [pd.Series(np.arange(5 + i) * (1.0 if y else -1.0)) for i, y in enumerate(labels)]
    return make_dataset(
        folder,
        (series[:12], series[12:]),
        labels[:12],
        elements=elements,
        classes=np.arange(2),
        split=Custom("specific.py"),
        code={"specific.py": code, **more},
    )


@dataclass
class Watched:
    """A fold that runs, and the phases it has reached."""

    future: concurrent.futures.Future[FoldOutcome]
    reached: list[FoldState] = field(default_factory=list)
    measured: list[Measurements] = field(default_factory=list)

    def outcome(self, timeout: float = 60) -> FoldOutcome:
        """Wait for its end."""
        return self.future.result(timeout)


class Folds:
    """An executor on an event loop in a thread of its own."""

    def __init__(
        self,
        scratch: Path,
        slots: int = SLOTS,
        threads: int = 1,
        isolation: Isolation = Isolation.PROCESS,
    ) -> None:
        self.scratch = scratch
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.executor = FoldExecutor(
            slots=slots, isolation=isolation, threads_per_slot=threads, scratch=scratch
        )
        self.wait(self.executor.start())

    def wait(self, coroutine: Coroutine[Any, Any, Result], timeout: float = 60) -> Result:
        """Run on the loop, from the test's own thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def close(self) -> None:
        """Stop the executor, then its loop."""
        self.wait(self.executor.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def zygote(self) -> psutil.Process:
        """The process that slots are forked from; at level `strict`, the sandbox that it is in."""
        (found,) = [
            process
            for process in psutil.Process().children()
            if process.status() != psutil.STATUS_ZOMBIE
            and process.cwd() == str(self.scratch.resolve())
        ]
        return found

    def slot_pid(self) -> int:
        """Of the one slot's process, or of the slot that was started first."""
        below = self.zygote().children(recursive=True)
        return min(child.pid for child in below if child.name().startswith("fold slot"))

    def begin(
        self,
        dataset: Dataset,
        files: Mapping[str, str] | str,
        *,
        slot: int = 0,
        run_id: str | None = None,
        train_is: npt.ArrayLike | None = None,
        wall: float = 30,
        cpu: float = 30,
        memory: int = 1 << 30,
        processes: int = 64,
    ) -> Watched:
        """files: by name, or the text of classifier.py. train_is: all rows but every fifth."""
        if isinstance(files, str):
            files = {"classifier.py": files}
        rows = np.arange(dataset.manifest.n_train)
        job = FoldJob(
            run_id=run_id or f"run-{next(_numbers)}",
            files={name: textwrap.dedent(text).encode() for name, text in files.items()},
            manifest=dataset.manifest,
            folder=dataset.folder,
            train_is=np.asarray(rows[rows % 5 != 4] if train_is is None else train_is),
            limits=ResolvedLimits(wall, cpu, memory, processes),
        )
        watched = Watched(concurrent.futures.Future())

        def on_phase(state: FoldState, measurements: Measurements) -> None:
            watched.reached.append(state)
            watched.measured.append(measurements)

        run = self.executor.run(slot, job, on_phase)
        watched.future = asyncio.run_coroutine_threadsafe(run, self._loop)
        return watched

    def run(self, dataset: Dataset, files: Mapping[str, str] | str, **options: Any) -> FoldOutcome:
        """As `begin`, and wait for its end."""
        return self.begin(dataset, files, **options).outcome()


@pytest.fixture(scope="session")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folds]:
    """One warm executor for all tests: what one fold does must not matter to the next."""
    level = strict_if_required()
    with closing(Folds(tmp_path_factory.mktemp("folds"), isolation=level)) as running:
        yield running


@pytest.fixture(scope="session")
def process_folds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folds]:
    """As `folds`, at level `process`: the files and processes of the host are in sight."""
    folder = tmp_path_factory.mktemp("process-folds")
    with closing(Folds(folder, isolation=Isolation.PROCESS)) as running:
        yield running


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The iris data set for a classifier."""
    return make_iris(tmp_path_factory.mktemp("iris") / "parts")
