"""Arrays of runs as the database keeps them: zlib bytes, without base64."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt
from sqlalchemy import Connection, func, select

from schemas.arrays import Array
from schemas.errors import RequestError
from schemas.wire import PART_CHARACTERS
from storage.models import ArrayRow

ArrayName = Literal["train_is", "test_is", "full_train_predictions", "test_predictions"]

_PART_BYTES = PART_CHARACTERS // 4 * 3
"""What `PART_CHARACTERS` of base64 decode to, so that pieces can be joined as text."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of one run."""

    run_id: str
    name: ArrayName
    dtype: str
    shape: str
    data: bytes

    @classmethod
    def of(cls, run_id: str, name: ArrayName, array: Array) -> StoredArray:
        """From an array whose data is valid base64."""
        assert array.data is not None
        shape = json.dumps(array.shape)
        return cls(run_id, name, array.dtype, shape, base64.b64decode(array.data))

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(json.loads(self.shape))

    def array(self) -> Array:
        """As it travels, with its data."""
        data = base64.b64encode(self.data).decode("ascii")
        return Array(dtype=self.dtype, shape=self.dimensions, data=data)

    def to_numpy(self) -> npt.NDArray[Any]:
        """Decoded."""
        return self.array().to_numpy()

    def row(self) -> dict[str, Any]:
        """Its columns."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "dtype": self.dtype,
            "shape": self.shape,
            "data": self.data,
        }


@dataclass(frozen=True, slots=True)
class ArraySize:
    """An array of a run, unread."""

    name: ArrayName
    dtype: str
    shape: str
    size: int
    """Bytes stored."""

    @property
    def characters(self) -> int:
        """Length of its data as it travels."""
        return -(-self.size // 3) * 4

    def in_parts(self) -> Array:
        """The array without its data, which `read_part` returns piece by piece."""
        count = -(-self.size // _PART_BYTES)
        return Array(dtype=self.dtype, shape=tuple(json.loads(self.shape)), parts=count)


def read_array(connection: Connection, run_id: str, name: str) -> Array:
    """A stored array."""
    row = connection.execute(
        select(ArrayRow.dtype, ArrayRow.shape, ArrayRow.data).where(
            ArrayRow.run_id == run_id, ArrayRow.name == name
        )
    ).one()
    data = base64.b64encode(row.data).decode("ascii")
    return Array(dtype=row.dtype, shape=tuple(json.loads(row.shape)), data=data)


def read_part(connection: Connection, run_id: str, name: str, index: int) -> str:
    """One piece of an array's base64 text. Raises RequestError when there is none."""
    piece = connection.scalar(
        select(func.substr(ArrayRow.data, index * _PART_BYTES + 1, _PART_BYTES)).where(
            ArrayRow.run_id == run_id, ArrayRow.name == name
        )
    )
    if not piece:
        raise RequestError(f"run {run_id} has no part {index} of {name}")
    return base64.b64encode(piece).decode("ascii")
