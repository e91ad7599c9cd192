"""The files of registered data, in the database piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from storage.gateway_models import RawFile

PIECE_BYTES = 4 << 20
"""No more of a file is in memory when it is read, and a row stays far below databases' limits."""


@dataclass(frozen=True)
class RawFileSize:
    """A registered file, unread."""

    name: str
    size: int
    pieces: int


def packed(pieces: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Size and zlib of each piece of a file, none larger than PIECE_BYTES; an empty file has one.

    Takes long: not to be done in a transaction.
    """
    return [(len(piece), zlib.compress(piece, 1)) for piece in pieces] or [(0, zlib.compress(b""))]


def write_file(
    connection: Connection, raw_data_id: int, name: str, pieces: list[tuple[int, bytes]]
) -> None:
    """Store a file that is `packed`."""
    for index, (size, data) in enumerate(pieces):
        row = {"raw_data_id": raw_data_id, "name": name, "index": index, "size": size, "data": data}
        connection.execute(insert(RawFile), [row])


def delete_files(connection: Connection, raw_data_id: int) -> None:
    """Delete all files of registered data."""
    connection.execute(delete(RawFile).where(RawFile.raw_data_id == raw_data_id))


def file_sizes(connection: Connection, raw_data_id: int) -> tuple[RawFileSize, ...]:
    """The files of registered data, by name; none when a message brought it."""
    rows = connection.execute(
        select(RawFile.name, func.sum(RawFile.size).label("size"), func.count().label("pieces"))
        .where(RawFile.raw_data_id == raw_data_id)
        .group_by(RawFile.name)
        .order_by(RawFile.name)
    )
    return tuple(RawFileSize(row.name, int(row.size), row.pieces) for row in rows)


def read_pieces(connection: Connection, raw_data_id: int, file: RawFileSize) -> Iterator[bytes]:
    """The content of a file, a piece at a time."""
    for index in range(file.pieces):
        piece = connection.execute(
            select(RawFile.data).where(
                RawFile.raw_data_id == raw_data_id,
                RawFile.name == file.name,
                RawFile.index == index,
            )
        ).scalar_one()
        yield zlib.decompress(piece)
