"""base64(zlib(bytes)), as clients of 2016 encode files and indices, beside plain text and lists."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.arrays import Array
from schemas.errors import ArrayError, FileError, MessageError
from schemas.messages import MAX_INDEX_BYTES

INT64 = "<i8"
FLOAT64 = "<f8"

# Possessive (`++`): none of it is tried again, so a hostile text takes no more than linear time.
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]++={0,2}+\s*+")
_NUMBERS = re.compile(
    r"\s*+(?:\[\s*+)?+(-?\d{1,19}+(?:[\s,]++-?\d{1,19}+)*)?[\s,]*+\]?+\s*+", re.ASCII
)


def decoded_file(name: str, text: str, limit: int) -> bytes:
    """The content of a file: text that is base64(zlib(...)) is unpacked, other text is the content.

    Raises FileError when it is longer than `limit` bytes, when it is damaged, or no Unicode.
    """
    packed = _packed(text)
    if packed is None:
        try:
            content = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise FileError(f"files: {name!r} is no valid Unicode: {error}") from error
        if len(content) > limit:
            raise _too_long(name, limit)
        return content
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(packed, limit + 1)
    except zlib.error as error:
        raise FileError(f"files: {name!r} is base64 of damaged zlib data: {error}") from error
    if len(content) > limit:
        raise _too_long(name, limit)
    if not inflater.eof or inflater.unused_data:
        raise FileError(f"files: {name!r} is base64 of zlib data without its end, or beyond it")
    return content


def decoded_indices(field: str, value: str | list[int]) -> Array:
    """Indices from a list, from text such as `[0, 1, 5]`, or from base64(zlib(int64 in C order)).

    Raises MessageError that names the field.
    """
    try:
        if isinstance(value, list):
            return Array.of(np.asarray(value, dtype=INT64))
        packed = _packed(value)
        if packed is not None:
            return Array.of(np.frombuffer(_inflated(packed), dtype=INT64))
        numbers = _NUMBERS.fullmatch(value)
        if numbers is not None:
            found = re.split(r"[\s,]+", numbers.group(1)) if numbers.group(1) else []
            return Array.of(np.array([int(number) for number in found], dtype=INT64))
    except (MessageError, OverflowError, ValueError) as error:
        raise MessageError(f"{field}: {error}") from error
    raise MessageError(
        f"{field}: {value[:40]!r} is neither base64 of the zlib-compressed bytes of an int64 array "
        "nor a list of row numbers"
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


def _packed(text: str) -> bytes | None:
    """What `text` is base64 of, when that begins as zlib data does; else None.

    Method 8, and a check of the first two bytes: RFC 1950, section 2.2.
    """
    if len(text) < 8 or not _BASE64.fullmatch(text):
        return None
    try:
        packed = base64.b64decode(text)
    except binascii.Error:
        return None
    begins = len(packed) > 2 and packed[0] & 0x0F == 8 and (packed[0] << 8 | packed[1]) % 31 == 0
    return packed if begins else None


def _inflated(packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(packed, MAX_INDEX_BYTES + 1)
    except zlib.error as error:
        raise ArrayError(f"base64 of damaged zlib data: {error}") from error
    if len(raw) > MAX_INDEX_BYTES:
        raise ArrayError(f"more than {MAX_INDEX_BYTES} bytes of indices")
    if not inflater.eof or inflater.unused_data:
        raise ArrayError("base64 of zlib data without its end, or beyond it")
    if len(raw) % 8:
        raise ArrayError(f"{len(raw)} bytes are no array of int64, which have 8 each")
    return raw


def _too_long(name: str, limit: int) -> FileError:
    return FileError(f"files: with {name!r} they have more than the {limit} bytes that are taken")
