"""An `Envelope` as pika publishes and delivers it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pika

from schemas.wire import Envelope


def to_pika(envelope: Envelope, user_id: str | None = None) -> pika.BasicProperties:
    """AMQP properties of a message; `user_id` when the envelope has none."""
    return pika.BasicProperties(
        content_type="application/json",
        type=envelope.type,
        message_id=envelope.message_id,
        priority=envelope.priority,
        timestamp=int(envelope.timestamp.timestamp()) if envelope.timestamp else None,
        app_id=envelope.app_id,
        user_id=envelope.user_id or user_id,
        reply_to=envelope.reply_to,
        correlation_id=envelope.correlation_id,
        # In milliseconds, as text (AMQP 0-9-1; https://www.rabbitmq.com/docs/ttl).
        expiration=None if envelope.expiration is None else str(int(envelope.expiration * 1000)),
        headers=dict(envelope.headers) or None,
        delivery_mode=2 if envelope.persistent else 1,
    )


def from_pika(method: Any, properties: pika.BasicProperties, body: bytes) -> Envelope:
    """What was delivered."""
    return Envelope(
        body=body,
        routing_key=method.routing_key,
        exchange=method.exchange,
        type=properties.type,
        message_id=properties.message_id,
        priority=properties.priority,
        timestamp=_time(properties.timestamp),
        app_id=properties.app_id,
        user_id=properties.user_id,
        reply_to=properties.reply_to,
        correlation_id=properties.correlation_id,
        headers=properties.headers or {},
        persistent=properties.delivery_mode == 2,
    )


def _time(seconds: int | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
