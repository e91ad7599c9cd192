"""base64(zlib(bytes)), as clients of 2016 encode files and indices, beside plain text and lists."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.inflating import PIECE_BYTES, inflated, is_packed
from schemas.arrays import Array
from schemas.errors import ArrayError, FileError, MessageError
from schemas.messages import MAX_INDEX_BYTES

INT64 = "<i8"
FLOAT64 = "<f8"

# Possessive (`++`): none of it is tried again, so a hostile text takes no more than linear time.
_NUMBERS = re.compile(rb"\s*+(?:\[\s*+)?+(?:-?\d{1,19}+(?:[\s,]++-?\d{1,19}+)*)?[\s,]*+\]?+\s*+")
_NUMBER = re.compile(rb"-?\d+")


def file_pieces(name: str, text: bytes, limit: int) -> Iterator[bytes]:
    """The content of a file: text that is base64(zlib(...)) is unpacked, other text is the content.

    In pieces of at most PIECE_BYTES. Raises FileError when it is longer than `limit` bytes, as soon
    as it is, or when it is damaged.
    """
    left = limit
    try:
        for piece in inflated(text) if is_packed(text) else _cut(text):
            left -= len(piece)
            if left < 0:
                raise FileError(
                    f"files: with {name!r} they have more than the {limit} bytes that are taken"
                )
            yield piece
    except ArrayError as error:
        raise FileError(f"files: {name!r} is {error}") from error


def decoded_indices(field: str, value: bytes | list[int]) -> Array:
    """Indices from a list, from text such as `[0, 1, 5]`, or from base64(zlib(int64 in C order)).

    Raises MessageError that names the field.
    """
    try:
        if isinstance(value, list):
            return Array.of(np.asarray(value, dtype=INT64))
        if is_packed(value):
            return Array.of(np.frombuffer(_index_bytes(value), dtype=INT64))
        if _NUMBERS.fullmatch(value):
            numbers = (int(match[0]) for match in _NUMBER.finditer(value))
            return Array.of(np.fromiter(numbers, dtype=INT64))
    except (MessageError, OverflowError, ValueError) as error:
        raise MessageError(f"{field}: {error}") from error
    raise MessageError(
        f"{field}: {value[:40].decode('utf-8', 'replace')!r} is neither base64 of the "
        "zlib-compressed bytes of an int64 array nor a list of row numbers"
    )


def for_clients_of_2016(dtype: str, shape: tuple[int, ...], data: bytes) -> tuple[str, str]:
    """An array's type and base64(zlib(raw bytes)) from what is stored.

    Numbers leave as little-endian float64 in C order, since that is what those clients decode.
    """
    if dtype != FLOAT64 and np.dtype(dtype).kind in "biuf":
        array = stored_array(dtype, shape, data).astype(FLOAT64)
        dtype, data = FLOAT64, zlib.compress(np.ascontiguousarray(array).data, 1)
    return dtype, base64.b64encode(data).decode("ascii")


def indices_for_clients_of_2016(dtype: str, shape: tuple[int, ...], data: bytes) -> str:
    """Indices as base64(zlib(int64 in C order))."""
    if dtype != INT64:
        array = stored_array(dtype, shape, data).astype(INT64)
        data = zlib.compress(np.ascontiguousarray(array).data, 1)
    return base64.b64encode(data).decode("ascii")


def stored_array(dtype: str, shape: tuple[int, ...], data: bytes) -> npt.NDArray[Any]:
    """An array as it was stored: zlib(raw bytes in C order)."""
    return np.frombuffer(zlib.decompress(data), dtype=dtype).reshape(shape)


def encoded_file(content: bytes) -> str:
    """base64(zlib(content))."""
    return base64.b64encode(zlib.compress(content)).decode("ascii")


def _cut(text: bytes) -> Iterator[bytes]:
    for start in range(0, len(text), PIECE_BYTES):
        yield text[start : start + PIECE_BYTES]


def _index_bytes(text: bytes) -> bytearray:
    raw = bytearray()
    for piece in inflated(text):
        if len(raw) + len(piece) > MAX_INDEX_BYTES:
            raise ArrayError(f"more than {MAX_INDEX_BYTES} bytes of indices")
        raw += piece
    if len(raw) % 8:
        raise ArrayError(f"{len(raw)} bytes are no array of int64, which have 8 each")
    return raw
