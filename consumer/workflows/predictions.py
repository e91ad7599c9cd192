"""What a submission predicts, made plain: arrays of numbers, one column a class of the data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from consumer.workflows.failure import Refusal
from schemas.states import FailureKind


def plain(predictions: object) -> npt.NDArray[Any]:
    """Lists, matrices, data frames and other kinds of arrays as an array of numbers.

    Refusal (bad_output) when it is none.
    """
    try:
        array = np.asarray(predictions)
    except ValueError as error:
        raise _bad(f"predictions are not an array: {error}") from error
    if array.ndim == 0:
        name = type(predictions).__name__
        raise _bad(f"predictions are not an array, but an object of type {name}")
    if array.dtype.kind not in "biuf":
        raise _bad(f"predictions are of type {array.dtype}, expected numbers")
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return np.ascontiguousarray(array)


def aligned(
    predictions: npt.NDArray[Any],
    classes: npt.NDArray[Any],
    fitted: object,
    y: npt.NDArray[Any],
) -> npt.NDArray[Any]:
    """Put each column in the place of its class; a class that was not trained on gets zeros.

    predictions: (n_rows, n_columns), one column for each entry of `fitted` (an estimator's
    `classes_`) when that fits, else for each class in `y`, sorted. Anything else is left as it is.
    """
    if predictions.ndim != 2:
        return predictions
    for labels in (_labels(fitted), np.unique(y)):
        if labels is None or len(labels) != predictions.shape[1]:
            continue
        if (labels.dtype.kind == "U") != (classes.dtype.kind == "U"):
            continue
        places = np.searchsorted(classes, labels)
        places[places == len(classes)] = 0
        if not np.array_equal(classes[places], labels):
            continue
        if np.array_equal(labels, classes):
            return predictions
        wide = np.zeros((len(predictions), len(classes)), dtype=np.float64)
        wide[:, places] = predictions
        return wide
    return predictions


def _labels(fitted: object) -> npt.NDArray[Any] | None:
    try:
        labels = np.asarray(fitted)
    except ValueError:
        return None
    if labels.ndim != 1 or labels.dtype.kind not in "biufU":
        return None
    return labels if len(np.unique(labels)) == len(labels) else None


def _bad(message: str) -> Refusal:
    return Refusal(message, kind=FailureKind.BAD_OUTPUT)
