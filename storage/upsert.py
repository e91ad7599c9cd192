"""Inserting rows that may be there already, in the same words on both databases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
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
        connection.execute(_insert_new(connection.dialect.name, model), rows)


def insert_or_update(
    connection: Connection,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    *,
    update: Iterable[str],
) -> None:
    """Insert `rows`; where the primary key is taken, set the columns `update` instead."""
    if rows:
        statement = _insert_or_update(connection.dialect.name, model, tuple(update))
        connection.execute(statement, rows)


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """`values` in lists that are short enough for IN."""
    iterator = iter(values)
    while chunk := list(islice(iterator, IN_MOST)):
        yield chunk


# Each statement is made once: making it costs more than SQLite takes to execute it.


@cache
def _insert_new(dialect: str, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    return _insert(dialect, model).on_conflict_do_nothing()


@cache
def _insert_or_update(
    dialect: str, model: type[Base], update: tuple[str, ...]
) -> sqlite.Insert | postgresql.Insert:
    statement = _insert(dialect, model)
    return statement.on_conflict_do_update(
        index_elements=list(model.__table__.primary_key),
        set_={name: statement.excluded[name] for name in update},
    )


def _insert(dialect: str, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(model) if dialect == "sqlite" else postgresql.insert(model)
