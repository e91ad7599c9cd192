"""The outbox: messages written in the transaction that they report, published afterwards.

A crash between commit and publish loses nothing: whoever collects next publishes what is left.
A crash between publish and delete (the next transaction, or a fifth of a second later) publishes
twice, with the same message_id.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from schemas.frozen import Message
from schemas.topology import ACCEPTED_HEADER, DEAD, REASON_HEADER, SOURCE_HEADER, WORK
from schemas.verdicts import clip
from schemas.wire import Envelope, pack
from storage.models import OutboxRow

_WRITE = insert(OutboxRow).returning(OutboxRow.id, sort_by_parameter_order=True)


@dataclass(frozen=True)
class Outgoing:
    """One message that waits to be published."""

    id: int
    exchange: str
    envelope: Envelope
    written_at: datetime


def row(exchange: str, message: Message, key: str, now: datetime) -> dict[str, Any]:
    """A row for a message of ours."""
    return _row(exchange, pack(message, key), {}, now)


def accepted_row(
    envelope: Envelope, now: datetime, *, raw_data_id: int | None = None
) -> dict[str, Any]:
    """A row for what the gateway accepted, whose own row stands already.

    raw_data_id: the message is published once the files of this registered data are uploaded.
    """
    return _row(WORK, envelope, {ACCEPTED_HEADER: "gateway"}, now, raw_data_id)


def dead_letter_row(envelope: Envelope, reason: str, now: datetime) -> dict[str, Any]:
    """A row that puts a message aside, as it came, with the reason."""
    headers = {REASON_HEADER: clip(reason, 1000), SOURCE_HEADER: envelope.routing_key}
    return _row(DEAD, envelope, headers, now)


def write(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[Outgoing]:
    """Insert them, in their order. Returns those that may be published once this is committed."""
    if not rows:
        return []
    ids = connection.scalars(_WRITE, rows)
    return [
        _outgoing(number, row)
        for number, row in zip(ids, rows, strict=True)
        if row["raw_data_id"] is None
    ]


def waiting(connection: Connection, most: int, but: Collection[int]) -> list[Outgoing]:
    """The oldest messages, without those of the ids `but`."""
    query = (
        select(OutboxRow.__table__)
        .where(OutboxRow.raw_data_id.is_(None))
        .order_by(OutboxRow.id)
        .limit(most + len(but))
    )
    rows = connection.execute(query).mappings()
    return [_outgoing(row["id"], row) for row in rows if row["id"] not in but]


def remove(connection: Connection, ids: Sequence[int]) -> None:
    """They are published."""
    if ids:
        connection.execute(delete(OutboxRow).where(OutboxRow.id.in_(ids)))


def oldest(connection: Connection, but: Collection[int]) -> datetime | None:
    """When the oldest of those, without `but`, was written that wait only to be published."""
    query = select(OutboxRow.created_at).where(
        OutboxRow.raw_data_id.is_(None), OutboxRow.id.not_in(but)
    )
    return connection.scalar(query.order_by(OutboxRow.id).limit(1))


def depth(connection: Connection, but: Collection[int]) -> int:
    """How many messages wait but those, among them data sets whose files are uploaded first."""
    query = select(func.count()).where(OutboxRow.id.not_in(but))
    return connection.scalar(query) or 0


def _outgoing(number: int, row: Mapping[Any, Any]) -> Outgoing:
    envelope = Envelope(
        body=row["body"],
        routing_key=row["routing_key"],
        type=row["type"],
        message_id=row["message_id"],
        priority=row["priority"],
        timestamp=row["created_at"],
        headers=json.loads(row["headers"]),
    )
    return Outgoing(number, row["exchange"], envelope, row["created_at"])


def _row(
    exchange: str,
    envelope: Envelope,
    headers: dict[str, str],
    now: datetime,
    raw_data_id: int | None = None,
) -> dict[str, Any]:
    return {
        "exchange": exchange,
        "routing_key": envelope.routing_key.replace("\0", ""),
        "type": _storable(envelope.type),
        "message_id": _storable(envelope.message_id),
        "priority": envelope.priority,
        "headers": json.dumps(headers),
        "body": envelope.body,
        "created_at": now,
        "raw_data_id": raw_data_id,
    }


def _storable(text: str | None) -> str | None:
    """Without NUL, which PostgreSQL refuses and RabbitMQ does not."""
    return text.replace("\0", "") if text is not None else None
