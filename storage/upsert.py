"""Inserting rows that may be there already, in the same words on both databases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from storage.models import Base

T = TypeVar("T")

IN_MOST = 500
"""Values in one IN list; SQLite and PostgreSQL take 32,766 and 65,535 parameters."""


def insert_new(
    connection: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert `rows`; those whose key is taken change nothing."""
    if rows:
        connection.execute(_insert(connection, model).on_conflict_do_nothing(), rows)


def insert_or_update(
    connection: Connection,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    *,
    update: Iterable[str],
) -> None:
    """Insert `rows`; where the primary key is taken, set the columns `update` instead."""
    if rows:
        statement = _insert(connection, model)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(model.__table__.primary_key),
                set_={name: statement.excluded[name] for name in update},
            ),
            rows,
        )


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """`values` in lists that are short enough for IN."""
    iterator = iter(values)
    while chunk := list(islice(iterator, IN_MOST)):
        yield chunk


def _insert(connection: Connection, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(model)
    return postgresql.insert(model)
