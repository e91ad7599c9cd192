"""The header of an npy file. numpy reads it as Python, which takes longer than all the rest of a
small file; most headers are read again and again, so the last ones are remembered."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

_MAGIC_SIZE = 8
_LENGTHS = {1: 2, 2: 4, 3: 4}
"""Bytes of the header's length, by the format's version
(https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)."""

_LONGEST = 10_000
"""numpy refuses to read longer ones from people that it does not trust."""


@dataclass(frozen=True)
class NpyHeader:
    """What stands before an array's data."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size: int
    """Bytes of the header: the data come next."""


def npy_header(data: memoryview) -> NpyHeader:
    """The header of the file that `data` begins with.

    What is wrong with one is told as numpy does: ValueError, and what Python's own reader raises.
    """
    length = _LENGTHS.get(data[6] if len(data) > _MAGIC_SIZE else 0)
    if length is None:
        raise ValueError("not an npy file of a version that is known")
    begin = _MAGIC_SIZE + length
    size = begin + int.from_bytes(data[_MAGIC_SIZE:begin], "little")
    if size > begin + _LONGEST:
        raise ValueError(f"an npy header of {size} bytes")
    return _read(bytes(data[:size]))


@lru_cache(maxsize=64)
def _read(header: bytes) -> NpyHeader:
    file = io.BytesIO(header)
    first = np.lib.format.read_magic(file) == (1, 0)
    formats = np.lib.format
    read = formats.read_array_header_1_0 if first else formats.read_array_header_2_0
    return NpyHeader(*read(file, max_header_size=_LONGEST), size=len(header))
