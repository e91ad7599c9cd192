"""Predictions as they come from a fold: nothing of them is believed before it is checked here."""

from __future__ import annotations

import math
import tokenize
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer.jobs import PREDICTIONS_LIMIT
from consumer.npy_header import npy_header
from schemas.datasets import Custom, Manifest, workflow_elements

_SLACK = 64 << 20


_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    TypeError,
    OverflowError,
    # Of the header, which numpy reads as Python.
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)


class BadPredictions(Exception):
    """Predictions that cannot be taken; the message is a verdict's sentence."""


def largest_payload(manifest: Manifest, rows: int) -> int:
    """How many bytes of predictions for so many rows are read at most.

    More than would be right, so that a wrong shape is met by a sentence that names it.
    """
    if manifest.classes is None and isinstance(manifest.split, Custom):
        return PREDICTIONS_LIMIT
    columns = math.prod(manifest.classes.shape) if manifest.classes else 1
    return min(PREDICTIONS_LIMIT, 4 * rows * columns * 8 + _SLACK)


def checked_predictions(
    payload: bytearray, manifest: Manifest, rows: int
) -> npt.NDArray[np.float64]:
    """Decode npy and check type, shape, number of rows, and that all is finite.

    Returns (rows, n_classes) probabilities for classifiers, (rows,) values for regressors; for
    custom data without classes (rows,) or (rows, n_columns), and with classes that are numbers
    also (rows,). Raises BadPredictions.
    """
    array = _decoded(payload)
    if array.dtype.kind not in "biuf":
        raise BadPredictions(f"predictions are of type {array.dtype}, expected numbers")
    if array.ndim not in (1, 2):
        raise BadPredictions(
            f"predictions have shape {array.shape}, expected {_expected(manifest, rows)}"
        )
    if len(array) != rows:
        raise BadPredictions(f"predictions have {len(array)} rows, expected {rows}")
    array = _shaped(array, manifest, rows).astype(np.float64, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        first = np.argwhere(~finite)[0]
        what = "NaN" if np.isnan(array[tuple(first)]) else "infinite"
        raise BadPredictions(f"predictions are not finite: row {first[0]} is {what}")
    return array


def _decoded(payload: bytearray) -> npt.NDArray[Any]:
    try:
        header = npy_header(memoryview(payload))
        if header.dtype.hasobject or min(header.shape, default=0) < 0:
            raise ValueError(header)
        count = math.prod(header.shape)
        if count * header.dtype.itemsize > len(payload) - header.size:
            raise BadPredictions("predictions declare more data than they have")
        array = np.frombuffer(payload, header.dtype, count, header.size)
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")
    except _UNREADABLE as error:
        raise BadPredictions("predictions are no npy array that can be read") from error


def _shaped(array: npt.NDArray[Any], manifest: Manifest, rows: int) -> npt.NDArray[Any]:
    custom = isinstance(manifest.split, Custom)
    if manifest.classes is not None:
        classes = manifest.classes.shape[0]
        labels = custom and np.dtype(manifest.classes.dtype).kind != "U"
        if array.ndim == 2 and array.shape[1] != classes:
            raise BadPredictions(
                f"predictions have {array.shape[1]} columns, expected {classes}, one per class"
            )
        if array.ndim == 1 and not labels:
            raise BadPredictions(
                f"predictions have shape {array.shape}, expected {_expected(manifest, rows)}"
            )
        return array
    if custom or array.ndim == 1:
        return array
    if array.shape[1] == 1 and "regressor" in workflow_elements(manifest.workflow_elements):
        return array[:, 0]
    raise BadPredictions(
        f"predictions have shape {array.shape}, expected {_expected(manifest, rows)}"
    )


def _expected(manifest: Manifest, rows: int) -> str:
    if manifest.classes is not None:
        return f"({rows}, {manifest.classes.shape[0]})"
    if isinstance(manifest.split, Custom):
        return f"({rows},) or ({rows}, n_columns)"
    return f"({rows},)"
