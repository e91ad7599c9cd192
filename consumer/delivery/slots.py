"""The slots of a worker: each takes one delivery, and no next one before it is settled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from broker.delivery import Delivery
from broker.feed import Feed
from broker.link import Link
from schemas.errors import AccessRefused, TopologyError

logger = logging.getLogger(__name__)

MISSING_QUEUE_PAUSE_SECONDS = 5.0

Take = Callable[[int, Feed, Delivery], Awaitable[Feed]]
"""Deals with a delivery that came to this slot from this feed; returns the slot's next feed."""


class Slots:
    """`number` slots on one queue, each with a consumer of its own with prefetch 1."""

    def __init__(self, link: Link, queue: str, number: int, take: Take) -> None:
        self._link = link
        self._queue = queue
        self._number = number
        self._take = take
        self._idle: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def work(self) -> None:
        """Take deliveries until `take_no_more`; returns when all that were taken are settled.

        Raises AccessRefused when this user may not read the queue.
        """
        try:
            async with asyncio.TaskGroup() as slots:
                for slot in range(self._number):
                    slots.create_task(self._work(slot), name=f"slot-{slot}")
        except ExceptionGroup as group:
            if (refused := group.subgroup(AccessRefused)) is not None:
                raise refused.exceptions[0] from None
            raise

    def take_no_more(self) -> None:
        """Slots that wait end now; the others when they have settled what they hold."""
        self._stopping = True
        for slot in self._idle:
            slot.cancel()

    async def _work(self, slot: int) -> None:
        feed = self._link.feed(self._queue, prefetch=1)
        try:
            while not self._stopping:
                delivery = await self._next(feed)
                if delivery is not None:
                    feed = await self._take(slot, feed, delivery)
        finally:
            await feed.close()

    async def _next(self, feed: Feed) -> Delivery | None:
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        try:
            return await feed.next()
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            # Only the waiting is over; what is left is to close the feed.
            task.uncancel()
            return None
        except TopologyError as error:
            logger.error("%s", error, extra={"action": "queue_missing", "queue": self._queue})
            await asyncio.sleep(MISSING_QUEUE_PAUSE_SECONDS)
            return None
        finally:
            self._idle.discard(task)
