"""Which folds a list has, page by page in the order of their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, func, select

from gateway.database import Database
from schemas.states import TERMINAL
from storage.models import RunRow, Standing
from storage.runs import Run, run_columns, run_from_row
from storage.upsert import IN_MOST

_Row = TypeVar("_Row")

PAGE = 200
"""Runs read at a time: what they printed may be long."""


@dataclass(frozen=True)
class Selection:
    """Current runs; each field narrows them."""

    fold_ids: tuple[int, ...] | None = None
    ended: bool = False
    new: bool = False
    dataset: str | None = None
    uploader: str | None = None
    """Only what this user has uploaded."""

    limit: int | None = None
    offset: int = 0


def pages(database: Database, selection: Selection) -> Iterator[list[Run]]:
    """All of them. Each page is a snapshot of its own: nothing is held for a slow client."""
    if selection.fold_ids is not None:
        ids = iter(sorted(set(selection.fold_ids)))
        while some := tuple(islice(ids, min(PAGE, IN_MOST))):
            yield database.read(_page, replace(selection, fold_ids=some), -1, PAGE, 0)
        return

    def read(after: int, size: int, offset: int) -> list[Run]:
        return database.read(_page, selection, after, size, offset)

    yield from _in_pages(read, lambda run: run.submission_fold_id, selection, PAGE)


def light_pages(
    database: Database, selection: Selection, size: int = 5_000
) -> Iterator[list[tuple[int, int, str, bool]]]:
    """Fold id, submission id, state and new of all of them."""
    columns = (RunRow.submission_fold_id, RunRow.submission_id, RunRow.state, RunRow.new)

    def read(after: int, size: int, offset: int) -> list[tuple[int, int, str, bool]]:
        query = _narrowed(select(*columns), selection, after).limit(size).offset(offset)
        return database.read(_light_rows, query)

    yield from _in_pages(read, lambda row: row[0], selection, size)


def count(connection: Connection, selection: Selection) -> int:
    """How many folds there are, whatever `limit` and `offset` say."""
    query = _narrowed(select(func.count()).select_from(RunRow), selection, -1).order_by(None)
    return connection.scalar(query) or 0


def _in_pages(
    read: Callable[[int, int, int], list[_Row]],
    id_of: Callable[[_Row], int],
    selection: Selection,
    size: int,
) -> Iterator[list[_Row]]:
    """read: of the rows behind the id `after`, at most `size`, but for the first `offset`."""
    after, left, offset = -1, selection.limit, selection.offset
    while left is None or left > 0:
        wanted = size if left is None else min(size, left)
        rows = read(after, wanted, offset)
        if rows:
            yield rows
        if len(rows) < wanted:
            return
        after, offset = id_of(rows[-1]), 0
        left = None if left is None else left - len(rows)


def _light_rows(
    connection: Connection, query: Select[*tuple[Any, ...]]
) -> list[tuple[int, int, str, bool]]:
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]


def _page(
    connection: Connection, selection: Selection, after: int, size: int, offset: int
) -> list[Run]:
    query = _narrowed(select(*run_columns()), selection, after).limit(size).offset(offset)
    return [run_from_row(row) for row in connection.execute(query).mappings()]


def _narrowed(
    query: Select[*tuple[Any, ...]], selection: Selection, after: int
) -> Select[*tuple[Any, ...]]:
    query = query.where(
        RunRow.standing == Standing.CURRENT, RunRow.submission_fold_id > after
    ).order_by(RunRow.submission_fold_id)
    if selection.fold_ids is not None:
        query = query.where(RunRow.submission_fold_id.in_(selection.fold_ids))
    if selection.ended:
        query = query.where(RunRow.state.in_(TERMINAL))
    if selection.new:
        query = query.where(RunRow.new)
    if selection.dataset is not None:
        query = query.where(RunRow.dataset == selection.dataset)
    if selection.uploader is not None:
        query = query.where(RunRow.uploader == selection.uploader)
    return query
