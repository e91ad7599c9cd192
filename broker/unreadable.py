"""AMQP texts and times that nobody can read: taken as missing, not as the end of the connection.

Any AMQP library can publish a message_id in Latin-1 or a timestamp in microseconds, and RabbitMQ
passes them on. pamqp raises on them, whereupon aiormq drops the connection, is delivered the same
message again, and so on for ever: one such message would stop every service that reads its queue.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pamqp import decode

from schemas.topology import UNREADABLE_HEADERS


def short_text(value: bytes) -> tuple[int, str]:
    """The bytes that a short string takes, and the string."""
    length = value[0]
    try:
        return length + 1, value[1 : length + 1].decode()
    except UnicodeDecodeError:
        return length + 1, ""


def time(value: bytes) -> tuple[int, datetime | None]:
    """The bytes that a time takes, and the time."""
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def table(value: bytes) -> tuple[int, Any]:
    """The bytes that a table takes, and the table."""
    try:
        return decode.field_table(value)
    except (ValueError, OverflowError, OSError, RecursionError):
        # Said, since what RabbitMQ writes there itself is missing, too.
        return 4 + int.from_bytes(value[:4], "big"), {UNREADABLE_HEADERS: True}


def read_as_missing() -> None:
    """Have pamqp read what is unreadable as missing, in this process."""
    decode.METHODS.update(shortstr=short_text, timestamp=time, table=table)
    decode.TABLE_MAPPING.update({b"T": time, b"F": table})
