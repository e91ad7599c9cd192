"""What must be known of a batch before its transaction begins: labels, and which pools exist."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from sqlalchemy import Engine

from broker.feed import LOST
from broker.link import Link
from broker.setup import queue_exists
from schemas.datasets import Manifest, is_short_name
from schemas.errors import BlobError
from schemas.events import DataReady
from schemas.topology import folds_queue
from storage.database import Database
from storage.datasets import NoLabels, wanted_labels
from storage.engine import snapshot
from storage.incoming import Incoming, pool_of
from storage.labels import FetchedLabels, fetch_labels

logger = logging.getLogger(__name__)

POOL_REMEMBERED_SECONDS = 60.0
FETCH_TRIES = 3


class Preparation:
    """Asks RabbitMQ what the messages of a batch presuppose."""

    def __init__(self, link: Link, url: str, database: Database) -> None:
        self._link = link
        self._url = url
        self._database = database
        self._known_until: dict[str, float] = {}

    async def unknown_pools(self, batch: Iterable[Incoming]) -> frozenset[str]:
        """The pools named in the batch that have no queue."""
        pools = {pool_of(item.envelope) for item in batch}
        return frozenset([pool for pool in pools if pool and not await self._is_known(pool)])

    async def labels(self, batch: Iterable[Incoming]) -> dict[str, FetchedLabels | NoLabels]:
        """The labels of data sets that the batch reports as ready, by message_id."""
        found: dict[str, FetchedLabels | NoLabels] = {}
        for item in batch:
            message = item.message
            if not isinstance(message, DataReady) or message.message_id in found:
                continue
            if await self._database.insist(_wanted, self._database.engine, message):
                found[message.message_id] = await self._fetched(message.manifest)
        return found

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

    async def _fetched(self, manifest: Manifest) -> FetchedLabels | NoLabels:
        tries = 0
        while True:
            try:
                return await asyncio.to_thread(fetch_labels, self._url, manifest)
            except BlobError as error:
                # A broker that is away says nothing about the blob.
                tries += self._link.is_connected
                logger.warning(str(error), extra={"action": "labels_not_fetched"})
                if tries == FETCH_TRIES:
                    return NoLabels(str(error))
            await self._database.pause(1)


def _wanted(engine: Engine, message: DataReady) -> bool:
    with snapshot(engine) as connection:
        return wanted_labels(connection, message)
