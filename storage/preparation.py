"""What must be known of a batch before its transaction begins: which pools exist."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from broker.delivery import LOST
from broker.link import Link
from broker.setup import queue_exists
from schemas.datasets import is_short_name
from schemas.topology import folds_queue
from storage.incoming import Incoming, pool_of

POOL_REMEMBERED_SECONDS = 60.0


class Preparation:
    """Asks RabbitMQ what the messages of a batch presuppose."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._known_until: dict[str, float] = {}

    async def unknown_pools(self, batch: Iterable[Incoming]) -> frozenset[str]:
        """The pools named in the batch that have no queue."""
        pools = {pool_of(item.envelope) for item in batch}
        return frozenset([pool for pool in pools if pool and not await self._is_known(pool)])

    async def _is_known(self, pool: str) -> bool:
        now = asyncio.get_running_loop().time()
        if self._known_until.get(pool, 0) > now:
            return True
        if not is_short_name(pool):
            return False
        try:
            known = await queue_exists(self._link, folds_queue(pool))
        except LOST:
            # Then the batch is delivered again, and asked about again.
            return True
        if known:
            self._known_until[pool] = now + POOL_REMEMBERED_SECONDS
        return known
