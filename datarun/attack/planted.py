"""The data set that attacks run on: each label can be told from anything else, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

NAME = "planted"
TARGET = "label"
ROWS = 150
FIRST_LABEL = 271_828_000
"""`submissions/labels.py` knows it. Labels are numbers in a row from here."""

COLUMNS = ("a", "b", "c", "d")
NEIGHBOURS_IDEA = "the neighbour's idea"


def x_and_y() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """X of shape (150, 4), and a label for each row, in another order than that of the rows."""
    random = np.random.RandomState(0)
    y = FIRST_LABEL + random.permutation(ROWS).astype(np.float64)
    x = random.normal(size=(ROWS, len(COLUMNS)))
    x[:, 0] += (y - FIRST_LABEL) / ROWS
    return x, y


def write_csv(folder: Path) -> Path:
    """As a CSV file with a header."""
    x, y = x_and_y()
    path = folder / f"{NAME}.csv"
    lines = [",".join((*COLUMNS, TARGET))]
    lines += [
        ",".join([*(f"{value:.6f}" for value in row), f"{label:.1f}"])
        for row, label in zip(x, y, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def attackers_rows(n_train: int) -> npt.NDArray[np.int64]:
    """What an attack is trained on: all rows but every fifth."""
    return np.flatnonzero(np.arange(n_train) % 5 != 4)
