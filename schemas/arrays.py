"""Arrays as JSON: dtype, shape and zlib + base64 data, or a plain list."""

from __future__ import annotations

import base64
import math
import re
import zlib
from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, model_validator

from schemas.errors import ArrayError
from schemas.frozen import Frozen

MAX_ARRAY_BYTES = 1 << 30
"""Largest array that is inflated, in bytes."""

MAX_PARTS = 100_000
"""Most messages that one array is spread over."""

_MAX_DIMENSIONS = 32
# Booleans, integers, floats and unicode text; never objects.
_TYPE_STRING = re.compile(r"[<>|][biufU][1-9][0-9]{0,8}")
_MAX_TEXT_LIST_BYTES = 128 << 20
_PIECE = 64 << 10
_SAMPLE = 4 << 10
_SAMPLES = 4
_WORTH_IT = 0.9


class Array(Frozen):
    """An array as it travels.

    `data` is base64(zlib(raw bytes in C order)). An array too large for one message has no
    `data`; its base64 text comes in `parts` messages of its own and is put back by `joined`.
    """

    dtype: str
    """numpy's type string, with its byte order: `<f8`, `>i4`, `|b1`, `<U10`."""

    shape: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)]
    """At least one dimension; 0-dimensional arrays are refused."""

    encoding: Literal["zlib+base64"] = "zlib+base64"
    data: str | None = None
    parts: Annotated[int, Field(ge=0, le=MAX_PARTS)] = 0

    @model_validator(mode="after")
    def _check(self) -> Array:
        dtype = accepted_dtype(self.dtype)
        _check_shape(self.shape, dtype)
        if (self.data is None) == (self.parts == 0):
            raise ArrayError("an array has either data or parts")
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of the array once inflated."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Array:
        """Encode an array of any memory order, or a (nested) list.

        Raises ArrayError for objects, ragged lists, 0-dimensional values and refused types.
        """
        array = _plain(values)
        data = base64.b64encode(_deflated(np.ascontiguousarray(array)))
        return cls(dtype=array.dtype.str, shape=array.shape, data=data.decode("ascii"))

    def to_numpy(self, limit: int = MAX_ARRAY_BYTES) -> npt.NDArray[Any]:
        """Decode; the result is writable, in C order, of shape `shape` and type `dtype`.

        Raises ArrayError when the data is not what dtype and shape declare, or when more than
        `limit` bytes are declared. Nothing is inflated past what is declared.
        """
        if self.data is None:
            raise ArrayError(f"the array's data travels in {self.parts} parts; join them first")
        dtype = accepted_dtype(self.dtype)
        if self.nbytes > limit:
            raise ArrayError(f"the array declares {self.nbytes} bytes; at most {limit} are taken")
        array = np.frombuffer(inflate(self.data, self.nbytes, "the array"), dtype=dtype)
        if dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
            raise ArrayError("a boolean array holds values other than 0 and 1")
        _check_characters(array)
        return array.reshape(self.shape)

    def split(self, size: int) -> tuple[Array, list[str]]:
        """This array without its data, and the data cut into texts of at most `size` characters."""
        if self.data is None:
            raise ArrayError("the array is already in parts")
        texts = [self.data[i : i + size] for i in range(0, len(self.data), size)]
        return self.model_copy(update={"data": None, "parts": len(texts)}), texts

    def joined(self, texts: list[str]) -> Array:
        """The inverse of `split`."""
        if len(texts) != self.parts:
            raise ArrayError(f"the array has {self.parts} parts; {len(texts)} were given")
        return self.model_copy(update={"data": "".join(texts), "parts": 0})


def accepted_dtype(text: str) -> np.dtype[Any]:
    """The numpy type that `text` names, or ArrayError when we do not take it."""
    # Looked at before numpy parses it: a type string from outside may be long, nested or obsolete.
    if _TYPE_STRING.fullmatch(text):
        try:
            dtype = np.dtype(text)
        except (TypeError, ValueError):
            pass
        else:
            if dtype.str == text and not (dtype.kind == "f" and dtype.itemsize > 8):
                return dtype
    raise ArrayError(
        f"arrays of type {text[:40]!r} are not taken: use booleans, integers, floats of at most "
        "8 bytes or text, written as numpy does: '|b1', '<i8', '>f4', '<U10'"
    )


def _deflated(array: npt.NDArray[Any]) -> bytes:
    """zlib data. Probabilities of most models hardly get smaller, at 40 MB/s: then they are stored
    as they are, which zlib's format allows."""
    raw = array.reshape(-1).view(np.uint8).data
    step = max(_SAMPLE, len(raw) // _SAMPLES)
    sample = b"".join(raw[start : start + _SAMPLE] for start in range(0, len(raw), step))
    is_worth_it = len(zlib.compress(sample, 1)) < len(sample) * _WORTH_IT
    return zlib.compress(raw, 1 if is_worth_it else 0)


def inflate(data: str, size: int, what: str) -> bytearray:
    """base64- and zlib-decode `data` into exactly `size` bytes, never inflating more.

    Raises ArrayError naming `what`.
    """
    try:
        packed = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ArrayError(f"{what} is not valid base64: {error}") from error
    inflater = zlib.decompressobj()
    raw = bytearray()
    # In pieces: given everything at once, zlib would hold the result twice.
    for start in range(0, len(packed), _PIECE):
        try:
            # max_length 0 would mean "no limit", hence the extra byte.
            raw += inflater.decompress(packed[start : start + _PIECE], size - len(raw) + 1)
        except zlib.error as error:
            raise ArrayError(f"{what} is not valid zlib data: {error}") from error
        if len(raw) > size:
            raise ArrayError(f"{what} inflates past its declared {size} bytes")
        if inflater.eof and (inflater.unused_data or start + _PIECE < len(packed)):
            raise ArrayError(f"{what} goes on after the end of its zlib data")
    if len(raw) < size or not inflater.eof:
        raise ArrayError(f"{what} ends after {len(raw)} of {size} bytes")
    return raw


def _plain(values: npt.ArrayLike) -> npt.NDArray[Any]:
    if isinstance(values, list):
        _check_list(values)
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError, TypeError) as error:
        raise ArrayError(f"not an array: {error}") from error
    if array.ndim == 0:
        raise ArrayError("a single value is not an array: put it in a list")
    _check_shape(array.shape, accepted_dtype(array.dtype.str))
    _check_characters(array)
    return array


def _check_list(values: list[Any]) -> None:
    """Refuse what numpy would silently turn into something else, or into far more memory."""
    level: list[Any] = values
    kinds = set(map(type, level))
    while kinds == {list}:
        level = list(chain.from_iterable(level))
        kinds = set(map(type, level))
    if str in kinds:
        if not kinds <= {str, np.str_}:
            raise ArrayError("a list mixes text with other values")
        # numpy gives every text the room of the longest one, 4 bytes a character.
        size = len(level) * max(map(len, level)) * 4
        if size > _MAX_TEXT_LIST_BYTES:
            raise ArrayError(
                f"a list of texts needs {size} bytes as an array; at most {_MAX_TEXT_LIST_BYTES} "
                "are taken"
            )
    if bool in kinds and kinds != {bool}:
        raise ArrayError("a list mixes true or false with other values")


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) > _MAX_DIMENSIONS:
        raise ArrayError(f"an array has at most {_MAX_DIMENSIONS} dimensions")
    # Dimensions of zero are left out: numpy cannot make (0, 2**62) either.
    if max(shape) > MAX_ARRAY_BYTES or (
        math.prod(length or 1 for length in shape) * dtype.itemsize > MAX_ARRAY_BYTES
    ):
        raise ArrayError(f"an array's shape declares more than {MAX_ARRAY_BYTES} bytes")


def _check_characters(array: npt.NDArray[Any]) -> None:
    if array.dtype.kind == "U" and array.size:
        points = np.ascontiguousarray(array).view(f"{array.dtype.str[0]}u4")
        if (points > 0x10FFFF).any() or ((points >= 0xD800) & (points < 0xE000)).any():
            raise ArrayError("a text array holds values that are not unicode characters")


def _from_any(value: object) -> object:
    if isinstance(value, list | np.ndarray):
        return Array.of(value)
    return value


AnyArray = Annotated[Array, BeforeValidator(_from_any, json_schema_input_type=Array | list[Any])]
"""A field that takes an `Array`, a numpy array, or a plain list."""
