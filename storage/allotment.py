"""Ids that nobody has used: for submissions and folds whose publisher does not number them."""

from __future__ import annotations

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import InstrumentedAttribute

from storage.counters import add
from storage.models import Fold, RunRow

FIRST_ALLOTTED = 1_000_000_000
"""Above what databases of challenges number themselves (databoard counts from 1), and still short
enough to type."""


def allot_submission(connection: Connection) -> int:
    """A submission id that was never used nor given before."""
    return _allot(connection, "submission_id", RunRow.submission_id, 1)


def allot_folds(connection: Connection, count: int) -> range:
    """`count` fold ids that were never used nor given before, one after the other."""
    first = _allot(connection, "submission_fold_id", Fold.submission_fold_id, count)
    return range(first, first + count)


def _allot(
    connection: Connection, counter: str, used: InstrumentedAttribute[int], count: int
) -> int:
    while True:
        first = add(connection, counter, count, start=FIRST_ALLOTTED)
        taken = connection.scalar(
            select(func.max(used)).where(used.between(first, first + count - 1))
        )
        if taken is None:
            return first
