"""What passes between delivery and execution: a fold to run and how it ended, a data set split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from schemas.datasets import Manifest
from schemas.events import Measurements
from schemas.states import FoldState, Visibility
from schemas.verdicts import Output, Verdict

PartFormat = Literal["npy", "pickle", "file"]

PREDICTIONS_LIMIT = 1 << 30
"""Largest array of predictions that is read from a fold, in bytes."""


@dataclass(frozen=True)
class ResolvedLimits:
    """What one fold may use, with the worker's defaults filled in."""

    wall_seconds: float
    """Wall-clock time of all phases together."""

    cpu_seconds: float
    """CPU time of the fold and everything it started."""

    memory_bytes: int
    processes: int
    """Processes and threads at one time."""


@dataclass(frozen=True)
class FoldJob:
    """One fold to train and test: everything that its process may know."""

    run_id: str
    """Seeds the fold's random numbers."""

    files: Mapping[str, bytes]
    """The submission's files by name."""

    manifest: Manifest
    folder: Path
    """The data set's cached parts, each under its `part_filename`; never written to."""

    train_is: npt.NDArray[np.int64]
    """Row numbers to train on, of shape (n_rows,)."""

    limits: ResolvedLimits


@dataclass(frozen=True)
class FoldOutcome:
    """How a fold ended, with everything that was produced before a failing phase."""

    state: FoldState
    """TESTED, or ERROR."""

    verdict: Verdict | None
    """None when TESTED."""

    full_train_predictions: npt.NDArray[Any] | None
    """(n_train, n_classes) probabilities or (n_train,) values, finite; None when not reached."""

    test_predictions: npt.NDArray[Any] | None
    measurements: Measurements
    output: Output


@dataclass(frozen=True)
class PreparedPart:
    """One part of a split data set, as a file."""

    name: str
    format: PartFormat
    visibility: Visibility
    path: Path


@dataclass(frozen=True)
class PreparedData:
    """A data set split into parts: what a Manifest needs besides the blobs."""

    n_train: int
    n_test: int
    columns: tuple[str, ...] | None
    """Names of X's columns; None for custom data."""

    classes: npt.NDArray[Any] | None
    """Sorted class labels, of shape (n_classes,); None for regression."""

    parts: tuple[PreparedPart, ...]
    output: Output
    """What the organiser's code printed."""


class PrepareFailed(Exception):
    """A data set could not be split; `verdict` says why and whose fault it was."""

    def __init__(self, verdict: Verdict, output: Output) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict
        self.output = output


def part_filename(name: str, part_format: PartFormat) -> str:
    """The file name of a part in a data set's folder: `X_train.npy`, `X_train.pickle`, `own.py`."""
    return name if part_format == "file" else f"{name}.{part_format}"
