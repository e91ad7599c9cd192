"""The custom split: the organiser's own code prepares and reads the data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer.preparation.split_task import (
    SplitReport,
    SplitTask,
    WrittenPart,
    refuse,
    sorted_classes,
    write_parts,
)
from consumer.workflows.organiser import load_organiser, row_count
from schemas.states import Visibility

FUNCTIONS = (
    "prepare_data",
    "get_train_data",
    "get_test_data",
    "train_submission",
    "test_submission",
)


def split_custom(task: SplitTask, custom_file: str) -> SplitReport:
    """Call `prepare_data`, `get_train_data` and `get_test_data` with the uploaded files' folder.

    X may be any object with a length that can be pickled; y is an array or a list of labels.
    The organiser's python files become parts; the other uploaded files, which hold labels, never.
    Passes on what his code raises.
    """
    out = Path(task.out)
    sources = sorted(name for name in task.files if name.endswith(".py"))
    for name in sources:
        shutil.copyfile(Path(task.raw) / name, out / name)
    module = load_organiser(task.raw, custom_file)
    lacking = [name for name in FUNCTIONS if not callable(getattr(module, name, None))]
    if lacking:
        noun = "function" if len(lacking) == 1 else "functions"
        raise refuse(f"{custom_file} lacks the {noun} {', '.join(lacking)}")
    module.prepare_data(task.raw)
    x_train, y_train = _pair(module.get_train_data(task.raw), "get_train_data")
    x_test, y_test = _pair(module.get_test_data(task.raw), "get_test_data")
    classes = None
    if "classifier" in task.elements and y_train.ndim == 1 and y_train.dtype.kind != "f":
        if y_test.dtype.kind == "f" or (y_test.dtype.kind == "U") != (y_train.dtype.kind == "U"):
            raise refuse(
                f"labels of get_train_data are of type {y_train.dtype}, "
                f"of get_test_data {y_test.dtype}"
            )
        classes = sorted_classes((y_train, y_test), custom_file)
    x = [x_train, x_test]
    pickled = not all(type(part) is np.ndarray and part.dtype.kind in "biuf" for part in x)
    try:
        parts = write_parts(out, x, [y_train, y_test], classes, pickled=pickled)
    except (TypeError, AttributeError, ValueError, RecursionError) as error:
        raise refuse(f"X of get_train_data or get_test_data cannot be stored: {error}") from error
    code = tuple(WrittenPart(name, "file", Visibility.PUBLIC) for name in sources)
    return SplitReport(len(y_train), len(y_test), None, classes is not None, parts + code)


def _pair(returned: Any, function: str) -> tuple[Any, npt.NDArray[Any]]:
    """X and y as `function` returned them."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise refuse(f"{function} must return X and y, not {type(returned).__name__}")
    x, labels = returned
    y = _labels(labels, function)
    try:
        rows = row_count(x)
    except TypeError as error:
        raise refuse(f"{function} returned X of type {type(x).__name__}, without length") from error
    if rows != len(y):
        raise refuse(f"{function} returned {rows} rows of X, but {len(y)} labels")
    if rows == 0:
        raise refuse(f"{function} returned no rows")
    return x, y


def _labels(labels: Any, function: str) -> npt.NDArray[Any]:
    try:
        y = np.asarray(labels)
        if y.dtype.kind == "O":
            text = all(isinstance(label, str) for label in y.flat)
            y = y.astype(np.str_ if text else np.float64)
    except (ValueError, TypeError) as error:
        raise refuse(f"{function} returned labels that are no array: {error}") from error
    if y.ndim == 0 or y.dtype.kind not in "biufU" or y.dtype == np.longdouble:
        raise refuse(f"{function} returned labels of type {y.dtype} and shape {y.shape}")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise refuse(f"{function} returned labels that are NaN or infinite")
    return np.ascontiguousarray(y)
