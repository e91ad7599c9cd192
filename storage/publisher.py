"""Publishes the outbox: what was committed, in its order, until each message is confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from aiormq.exceptions import DeliveryError
from sqlalchemy import Engine

from broker.link import Link
from schemas.errors import PublishError
from schemas.topology import RESULTS
from storage import outbox
from storage.database import Database
from storage.engine import snapshot, transaction

logger = logging.getLogger(__name__)

MOST = 500
"""Messages published at a time."""

IDLE_SECONDS = 0.2
"""How often a look is taken at what the gateway has written."""

OTHERS_TURN = timedelta(seconds=2)
"""How old a message must be before a collector that is not at work publishes it: its writer does
so at once, unless he has died."""

STUCK_SECONDS = 5.0
"""When a message that RabbitMQ returned is tried again."""


class OutboxPublisher:
    """Drains the outbox whenever it is told to, and looks by itself now and then."""

    def __init__(self, link: Link, database: Database) -> None:
        self._link = link
        self._database = database
        self._filled = asyncio.Event()
        self._is_ours = False
        self._stuck: set[int] = set()
        self._stuck_since = 0.0

    def wake(self, *, filled: bool) -> None:
        """This collector is at work, and has perhaps written something into the outbox."""
        self._is_ours = True
        if filled:
            self._filled.set()

    def look(self) -> None:
        """Something was written into the outbox that no delivery has brought."""
        self._filled.set()

    @property
    def is_ours(self) -> bool:
        """Whether this collector is the one at work, as far as it knows."""
        return self._is_ours

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            self._filled.clear()
            if await self.drain() < MOST:
                try:
                    async with asyncio.timeout(IDLE_SECONDS):
                        await self._filled.wait()
                except TimeoutError:
                    continue

    async def drain(self) -> int:
        """Publish what waits, at most `MOST` messages; returns how many were published."""
        now = asyncio.get_running_loop().time()
        if now - self._stuck_since > STUCK_SECONDS:
            self._stuck.clear()
            self._stuck_since = now
        rows = await self._database.insist(_waiting, self._database.engine, self._stuck)
        if not self._is_ours:
            turn = datetime.now(UTC) - OTHERS_TURN
            rows = [row for row in rows if row.written_at < turn]
        done = await asyncio.gather(*(self._publish(row) for row in rows))
        published = [row.id for row, is_done in zip(rows, done, strict=True) if is_done]
        if published:
            await self._database.insist(_remove, self._database.engine, published)
        return len(published)

    async def _publish(self, row: outbox.Outgoing) -> bool:
        try:
            await self._link.publish(row.exchange, row.envelope)
        except PublishError as error:
            # Results are for whoever listens; nobody has to.
            if row.exchange == RESULTS and isinstance(error.__cause__, DeliveryError):
                return True
            self._stuck.add(row.id)
            logger.warning(
                str(error), extra={"action": "outbox_stuck", "message_id": row.envelope.message_id}
            )
            return False
        return True


def _waiting(engine: Engine, stuck: set[int]) -> list[outbox.Outgoing]:
    with snapshot(engine) as connection:
        return outbox.waiting(connection, MOST, stuck)


def _remove(engine: Engine, ids: Sequence[int]) -> None:
    with transaction(engine) as connection:
        outbox.remove(connection, ids)
