"""The held-out split of a CSV file: checks the columns, splits the rows, writes the parts."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from consumer.preparation.csv_file import listed, read_csv
from consumer.preparation.split_task import (
    SplitReport,
    SplitTask,
    refuse,
    sorted_classes,
    write_parts,
)


def split_held_out(task: SplitTask) -> SplitReport:
    """`train_test_split(df, test_size=held_out_test, random_state=random_state)`, not stratified.

    X is all columns but the target: an npy array when all are numbers of a common type, a pickled
    data frame when a feature extractor is to make numbers of them. Refusal names what is wrong.
    """
    (file,) = task.files
    frame = read_csv(Path(task.raw) / file)
    target = str(task.target_column)
    _check_columns(frame, file, target)
    y = _labels(frame[target], file, regression="regressor" in task.elements)
    x = frame.drop(columns=target)
    pickled = "feature_extractor" in task.elements and not _one_number_type(x)
    values = x if pickled else _numbers(x, file, task.elements)
    train, test = split_rows(len(x), task.held_out_test, task.random_state)
    if not len(train):
        raise refuse(
            f"{file} has {len(x)} rows, too few to hold out {task.held_out_test:g} of them"
        )
    classes = None
    if "regressor" not in task.elements:
        classes = sorted_classes((y[train], y[test]), f"column {target!r} of {file}")
    parts = write_parts(
        Path(task.out),
        [_rows(values, train), _rows(values, test)],
        [y[train], y[test]],
        classes,
        pickled=pickled,
    )
    columns = tuple(map(str, x.columns))
    return SplitReport(len(train), len(test), columns, classes is not None, parts)


def _rows(values: Any, rows: npt.NDArray[np.int64]) -> Any:
    if isinstance(values, pd.DataFrame):
        return values.iloc[rows].reset_index(drop=True)
    return values[rows]


def split_rows(
    n_rows: int, held_out: float, random_state: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers of training and test, those of scikit-learn's `train_test_split`.

    By hand, since importing that takes twice as long as all else that a split does; its method is
    promised not to change (scikit-learn's ShuffleSplit), and a test compares the two.
    """
    n_test = math.ceil(held_out * n_rows)
    rows = np.random.RandomState(random_state).permutation(n_rows)
    return rows[n_test:], rows[:n_test]


def _check_columns(frame: pd.DataFrame, file: str, target: str) -> None:
    names = [str(column) for column in frame.columns]
    if target not in names:
        close = difflib.get_close_matches(target, names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise refuse(f"{file} has no column {target!r}{hint}; it has {listed(names)}")
    if len(names) == 1:
        raise refuse(f"{file} has no column besides the target {target!r}")
    missing = frame[target].isna().to_numpy()
    if missing.any():
        count = int(missing.sum())
        values = "a missing value" if count == 1 else f"{count} missing values, the first"
        raise refuse(f"column {target!r} of {file} has {values} in row {missing.argmax() + 1}")


def _labels(column: pd.Series[Any], file: str, *, regression: bool) -> npt.NDArray[Any]:
    name = f"column {column.name!r} of {file}"
    numeric = column.dtype.kind in "biuf"
    if not numeric:
        if regression:
            number = pd.to_numeric(column, errors="coerce").isna().to_numpy()
            row = int(number.argmax())
            raise refuse(
                f"{name} is not numeric: row {row + 1} is {column.iloc[row]!r}; "
                "a regressor needs numbers"
            )
        return np.array([str(label) for label in column], dtype=np.str_)
    y = column.to_numpy()
    if y.dtype.kind == "f":
        infinite = ~np.isfinite(y)
        if infinite.any():
            raise refuse(f"{name} is infinite in row {infinite.argmax() + 1}")
        fractions = y != np.round(y)
        if not regression and fractions.any():
            raise refuse(
                f"{name} holds continuous values such as {y[fractions.argmax()]:g}; "
                "a classifier needs classes, a regressor takes numbers"
            )
    return y


def _one_number_type(x: pd.DataFrame) -> bool:
    return len(set(x.dtypes)) == 1 and x.dtypes.iloc[0].kind in "biuf"


def _numbers(x: pd.DataFrame, file: str, elements: tuple[str, ...]) -> npt.NDArray[Any]:
    others = [str(name) for name, dtype in x.dtypes.items() if dtype.kind not in "biuf"]
    if others:
        noun, verb = ("column", "is") if len(others) == 1 else ("columns", "are")
        raise refuse(
            f"{noun} {listed(others)} of {file} {verb} not numeric: encode as numbers, "
            f"or use workflow_elements='feature_extractor, {', '.join(elements)}'"
        )
    return x.to_numpy(dtype=np.result_type(*x.dtypes))
