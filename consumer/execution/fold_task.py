"""What a fold's process is told: its job with nothing in it that a submission may not see."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from consumer.parts import Layout


@dataclass(frozen=True)
class FoldTask:
    """One fold as its own process sees it. X comes beside it, as open files."""

    seed: int
    """Of numpy's and Python's random numbers, below 2**32."""

    threads: int
    """Threads of BLAS and OpenMP."""

    folder: str
    """The fold's own folder, which does not exist yet."""

    cpu_seconds: float
    memory_bytes: int
    processes: int

    submission: Mapping[str, bytes]
    """The submission's files by name."""

    elements: tuple[str, ...]
    """Workflow elements, in the order in which they are applied."""

    custom_file: str | None
    """The organiser's file that trains and tests; None for the standard workflow."""

    organiser: Mapping[str, bytes]
    """The organiser's python files by name."""

    x_layouts: tuple[Layout, Layout] | None
    """Of X for training and for testing as npy; None when they are pickled."""

    columns: tuple[str, ...] | None
    classes: npt.NDArray[Any] | None
    n_train: int
    """Rows of X for training, of which `train_is` are this fold's."""

    train_is: npt.NDArray[np.int64]
    y: npt.NDArray[Any]
    """Labels of the rows `train_is`, and of no others."""

    def to_bytes(self) -> bytes:
        """As a fold's process reads it: its fields, not itself, for our modules are out of sight
        there.
        """
        fields = vars(self).copy()
        if self.x_layouts is not None:
            fields["x_layouts"] = tuple(tuple(layout) for layout in self.x_layouts)
        return pickle.dumps(fields, protocol=5)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray) -> Self:
        """As `to_bytes` wrote it."""
        return cls(**pickle.loads(data))
