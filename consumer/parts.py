"""Data-set parts as files that any number of folds map at one time: npy, or pickle 5 with buffers.

A mapping is private: a fold may write to it, and nobody else sees that. A pickle's large buffers
stand behind the pickle itself, so that they are mapped too instead of being copied.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import pickle
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from consumer.npy_header import npy_header

_MAGIC = b"DATARUN\x05"
_COUNTS = struct.Struct("<8sQQ")  # magic, length of the pickle, number of buffers
_PLACE = struct.Struct("<QQ")  # offset and length of a buffer
_ALIGNMENT = 64
_HEAD = 1 << 14
"""Bytes of an npy file in which its header ends: see `npy_header`."""

_WRITABLE = 0x200
"""PyBUF_WRITE."""

_MAP_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)


_memory_view = ctypes.pythonapi.PyMemoryView_FromMemory
_memory_view.restype = ctypes.py_object
_memory_view.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)


class Layout(NamedTuple):
    """What the header of an npy file says."""

    dtype: str
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    offset: int
    """Of the array's first byte in the file."""


def write_npy(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array of numbers, booleans or text."""
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def write_pickle(path: Path, value: object) -> None:
    """Write any picklable object."""
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raws = [buffer.raw() for buffer in buffers]
    offset = _COUNTS.size + _PLACE.size * len(raws) + len(stream)
    places = []
    for raw in raws:
        offset = _aligned(offset)
        places.append((offset, raw.nbytes))
        offset += raw.nbytes
    with path.open("wb") as file:
        file.write(_COUNTS.pack(_MAGIC, len(stream), len(raws)))
        for place in places:
            file.write(_PLACE.pack(*place))
        file.write(stream)
        for (start, _), raw in zip(places, raws, strict=True):
            file.write(bytes(start - file.tell()))
            file.write(raw)


def open_part(descriptor: int, part_format: Literal["npy", "pickle"]) -> Any:
    """Map a part that was opened for reading: an array, or whatever object was pickled.

    Unpickling runs code that the file chooses: only a fold's own process may do it. The mapping
    stays until that process ends.
    """
    return read_part(mapped_for_good(descriptor), part_format)


def read_part(view: memoryview, part_format: Literal["npy", "pickle"]) -> Any:
    """As `open_part`, of a part that is mapped."""
    if part_format == "npy":
        return array_of(view, _layout(view))
    magic, length, count = _COUNTS.unpack_from(view)
    if magic != _MAGIC:
        raise ValueError("the part is not a pickle of ours")
    start = _COUNTS.size + _PLACE.size * count
    buffers = []
    for number in range(count):
        offset, size = _PLACE.unpack_from(view, _COUNTS.size + _PLACE.size * number)
        buffers.append(view[offset : offset + size])
    return pickle.loads(view[start : start + length], buffers=buffers)


def map_npy(path: Path) -> npt.NDArray[Any]:
    """Map an npy file privately."""
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    return array_of(view, _layout(view))


@lru_cache(maxsize=256)
def layout_of(path: Path) -> Layout:
    """What the header of an npy file says, read once: for files that never change."""
    with path.open("rb") as file:
        return _layout(memoryview(file.read(_HEAD)))


def array_of(view: memoryview, layout: Layout) -> npt.NDArray[Any]:
    """The array in an npy file that is mapped."""
    dtype, shape, order, offset = layout
    count = math.prod(shape)
    return np.frombuffer(view, dtype, count, offset).reshape(shape, order=order)


def mapped_for_good(descriptor: int) -> memoryview:
    """Map a file privately without keeping a descriptor of it, as Python's `mmap` does.

    Whoever has one can open the file again through /proc, and write to it where its owner may.
    """
    size = os.fstat(descriptor).st_size
    address = _libc.mmap(
        None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, descriptor, 0
    )
    if address == _MAP_FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"a part cannot be mapped: {os.strerror(error)}")
    view: memoryview = _memory_view(address, size, _WRITABLE)
    return view


def _layout(mapped: memoryview) -> Layout:
    header = npy_header(mapped)
    if header.dtype.hasobject:
        raise ValueError("an npy part holds objects")
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    return Layout(header.dtype.str, header.shape, order, header.size)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
