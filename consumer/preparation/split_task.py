"""What a process that prepares a data set is told, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from consumer.parts import write_npy, write_pickle
from consumer.workflows.failure import Refusal
from schemas.states import Culprit, FailureKind, Visibility

CLASSES_FILE = "classes.npy"


@dataclass(frozen=True)
class SplitTask:
    """A data set to be split."""

    raw: str
    """Folder of the uploaded files."""

    out: str
    """Folder for the parts."""

    folder: str
    """The process's own folder, not made yet."""

    threads: int
    memory_bytes: int
    processes: int
    files: tuple[str, ...]
    """Names of the uploaded files."""

    elements: tuple[str, ...]
    scoring: tuple[str, ...]
    target_column: str | None
    held_out_test: float
    random_state: int
    custom_file: str | None
    """The organiser's file; None for a held-out split."""


@dataclass(frozen=True)
class WrittenPart:
    """A part that is in `out` now."""

    name: str
    format: Literal["npy", "pickle", "file"]
    visibility: Visibility


@dataclass(frozen=True)
class SplitReport:
    """A data set was split."""

    n_train: int
    n_test: int
    columns: tuple[str, ...] | None
    has_classes: bool
    """Whether CLASSES_FILE was written."""

    parts: tuple[WrittenPart, ...]

    def as_json(self) -> dict[str, Any]:
        """As the process's last frame carries it."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> SplitReport:
        """ValueError, TypeError or KeyError when it is none."""
        columns = said["columns"]
        return cls(
            n_train=int(said["n_train"]),
            n_test=int(said["n_test"]),
            columns=None if columns is None else tuple(map(str, columns)),
            has_classes=bool(said["has_classes"]),
            parts=tuple(
                WrittenPart(part["name"], part["format"], Visibility(part["visibility"]))
                for part in said["parts"]
            ),
        )


def refuse(message: str) -> Refusal:
    """The data is wrong; the sentence says what and where."""
    return Refusal(message, kind=FailureKind.DATA, culprit=Culprit.ORGANISER)


def write_parts(
    out: Path,
    x: Sequence[Any],
    y: Sequence[npt.NDArray[Any]],
    classes: npt.NDArray[Any] | None,
    *,
    pickled: bool,
) -> tuple[WrittenPart, ...]:
    """Write X and y for training and testing, in that order. Only y of the test rows is secret."""
    x_format: Literal["npy", "pickle"] = "pickle" if pickled else "npy"
    write = write_pickle if pickled else write_npy
    write(out / f"X_train.{x_format}", x[0])
    write(out / f"X_test.{x_format}", x[1])
    write_npy(out / "y_train.npy", y[0])
    write_npy(out / "y_test.npy", y[1])
    if classes is not None:
        write_npy(out / CLASSES_FILE, classes)
    return (
        WrittenPart("X_train", x_format, Visibility.PUBLIC),
        WrittenPart("y_train", "npy", Visibility.PUBLIC),
        WrittenPart("X_test", x_format, Visibility.PUBLIC),
        WrittenPart("y_test", "npy", Visibility.SECRET),
    )


def sorted_classes(y: Sequence[npt.NDArray[Any]], where: str) -> npt.NDArray[Any]:
    """All labels of training and test rows, sorted. Refusal when there is one only."""
    classes = np.unique(np.concatenate(list(y)))
    if len(classes) < 2:
        raise refuse(f"{where} has only one class, {classes[0]!s}; a classifier needs two or more")
    if len(np.unique(y[0])) < 2:
        raise refuse(
            f"{where} has only one class, {y[0][0]!s}, in its training part; change random_state "
            "or held_out_test, or add rows"
        )
    return classes
