"""The audit of messages that changed nothing: duplicates, late events, malformed ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from schemas.frozen import storable
from schemas.verdicts import clip
from storage.counters import add, value
from storage.models import IgnoredMessage

KEPT = 10_000
"""Rows that pruning leaves."""

_COUNTER = "ignored_messages"


def row(
    kind: str, reason: str, run_id: str | None, fold_id: int | None, now: datetime
) -> dict[str, Any]:
    """A row to be written."""
    return {
        "kind": storable(clip(kind, 200)),
        "run_id": storable(run_id) if run_id is not None else None,
        "submission_fold_id": fold_id,
        "reason": storable(clip(reason, 1000)),
        "at": now,
    }


def write(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert and count."""
    if rows:
        connection.execute(insert(IgnoredMessage), rows)
        add(connection, _COUNTER, len(rows))


def count(connection: Connection) -> int:
    """How many messages have ever been ignored, pruned ones too."""
    return value(connection, _COUNTER)


def prune(connection: Connection) -> None:
    """Keep the newest rows."""
    newest = connection.scalar(select(func.max(IgnoredMessage.id)))
    if newest is not None:
        connection.execute(delete(IgnoredMessage).where(IgnoredMessage.id <= newest - KEPT))
