"""Publishes the outbox: what was committed, in its order, until each message is confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from aiormq.exceptions import DeliveryError

from broker.link import Link
from schemas.errors import PublishError
from schemas.topology import RESULTS
from storage import outbox
from storage.database import Database
from storage.engine import snapshot, transaction
from storage.lookout import MESSAGES_TURN, View
from storage.outbox import Outgoing
from storage.pending import MOST, Pending

logger = logging.getLogger(__name__)

STUCK_SECONDS = 5.0
"""When a message that RabbitMQ returned is tried again."""


class OutboxPublisher:
    """Publishes what this collector has committed, and what it is told that the outbox holds.

    What is published is removed by the next transaction (`storage.pending`).
    """

    def __init__(
        self, link: Link, database: Database, pending: Pending, is_ours: Callable[[], bool]
    ) -> None:
        """is_ours: whether this collector is the one at work, as far as it knows."""
        self._link = link
        self._database = database
        self._pending = pending
        self._filled = asyncio.Event()
        # Whoever starts has not seen what his predecessor has left.
        self._is_to_look = True
        self._written: deque[Outgoing] = deque()
        self._draining = asyncio.Lock()
        self._is_ours = is_ours
        self._stuck: set[int] = set()
        self._stuck_since = 0.0

    def publish(self, rows: Iterable[Outgoing]) -> None:
        """Publish what this collector has just written."""
        self._written.extend(rows)
        self._filled.set()

    def look(self) -> None:
        """Something waits in the outbox that is not on its way."""
        self._is_to_look = True
        self._filled.set()

    def view(self) -> View:
        """What it would see of the outbox."""
        now = asyncio.get_running_loop().time()
        if now - self._stuck_since > STUCK_SECONDS:
            self._stuck.clear()
            self._stuck_since = now
        return View(self._is_ours(), frozenset(self._stuck))

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            if not await self.drain():
                await self._filled.wait()
            self._filled.clear()

    async def drain(self) -> int:
        """Publish what waits, at most `MOST` messages; returns how many were published."""
        async with self._draining:
            rows: Sequence[Outgoing] = list(self._written)
            self._written.clear()
            if not rows and (self._is_to_look or self._pending.is_behind):
                self._is_to_look = False
                rows = await self._database.insist(self._read, self.view())
                self._is_to_look |= len(rows) == MOST
            done = await asyncio.gather(*(self._publish(row) for row in rows))
            published = [row.id for row, is_done in zip(rows, done, strict=True) if is_done]
            self._pending.settled([row.id for row in rows], published)
            return len(published)

    async def finish(self) -> None:
        """Publish all that is left; what is published by then is removed, also when cancelled."""
        try:
            self.look()
            while await self.drain():
                continue
        finally:
            await self._database.call(self._remove)

    async def _publish(self, row: Outgoing) -> bool:
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

    def _read(self, view: View) -> list[Outgoing]:
        with snapshot(self._database.engine) as connection:
            rows = outbox.waiting(connection, MOST, self._pending.excluded() | view.stuck)
        are_all = len(rows) < MOST
        if not view.is_ours:
            turn = datetime.now(UTC) - MESSAGES_TURN
            rows = [row for row in rows if row.written_at < turn]
        self._pending.found(rows, are_all=are_all)
        return rows

    def _remove(self) -> None:
        removable = self._pending.removable()
        with transaction(self._database.engine) as connection:
            outbox.remove(connection, removable)
        self._pending.removed(removable)
