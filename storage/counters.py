"""Numbers that only grow, kept in the database."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from storage.models import Counter
from storage.upsert import insert_new


def add(connection: Connection, name: str, amount: int, start: int = 0) -> int:
    """Add to a counter that begins at `start`, and return its value before.

    The row stays locked until the transaction ends, so nobody else gets the same value.
    """
    insert_new(connection, Counter, [{"name": name, "value": start}])
    after: int = connection.execute(
        update(Counter)
        .where(Counter.name == name)
        .values(value=Counter.value + amount)
        .returning(Counter.value)
    ).scalar_one()
    return after - amount


def value(connection: Connection, name: str) -> int:
    """Its value; 0 when nothing was ever added."""
    return connection.scalar(select(Counter.value).where(Counter.name == name)) or 0
