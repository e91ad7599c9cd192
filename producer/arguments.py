"""What callers give, as fields of messages: a wrong argument is a MessageError that names it."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from schemas.errors import MessageError
from schemas.frozen import Message
from schemas.messages import Limits
from schemas.wire import first_fault

Model = TypeVar("Model", bound=Message)


def built(model: type[Model], **fields: Any) -> Model:
    """A message of the contract, or MessageError with the first fault in one sentence."""
    try:
        return model(**fields)
    except ValidationError as error:
        raise MessageError(first_fault(error)) from error


def whole_number(name: str, value: object) -> int:
    """An integer, numpy's too, as Python's. Raises MessageError."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise MessageError(f"{name}: {value!r} is not an integer")
    return operator.index(value)


def fold_ids(ids: Iterable[SupportsIndex]) -> list[int]:
    """submission_fold_ids as Python's integers."""
    return [whole_number("submission_fold_id", fold_id) for fold_id in ids]


def limits(given: Limits | Mapping[str, Any]) -> Limits:
    """What a fold may use. Raises MessageError, also for a name that no limit has."""
    if isinstance(given, Limits):
        return given
    names = list(Limits.model_fields)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise MessageError(f"limits: there is no {name!r}, only {', '.join(names)}{hint}")
    try:
        return Limits(**given)
    except ValidationError as error:
        raise MessageError(f"limits: {first_fault(error)}") from error


def row_indices(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """train_is or test_is as an array; that it holds row numbers, the message checks."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise MessageError(f"{name}: not a list of row numbers: {error}") from error
    if array.dtype.kind == "b":
        raise MessageError(f"{name}: a mask of booleans is given; use numpy.flatnonzero(mask)")
    return array
