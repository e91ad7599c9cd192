"""Data sets that are reported ready, until their labels are here; other messages do not wait."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from broker.blob_store import BlobStore
from broker.feed import Delivery
from broker.link import Link
from schemas.datasets import Manifest
from schemas.errors import BlobError, StoreUnreachable
from schemas.events import DataReady
from storage.database import Database, Stopping
from storage.datasets import NoLabels, wanted_labels
from storage.engine import snapshot
from storage.incoming import Incoming
from storage.labels import FetchedLabels, fetch_labels

logger = logging.getLogger(__name__)

FETCH_TRIES = 3
AGAIN_SECONDS = 1.0
HELD_UP_SECONDS = 1.0
"""How long a batch waits for labels; then their data sets are held back, and the others go on."""

Labels = Mapping[str, FetchedLabels | NoLabels]
"""By message_id of their data set."""


@dataclass(frozen=True)
class Batch:
    """Messages that can be stored now."""

    deliveries: Sequence[Delivery]
    messages: Sequence[Incoming]
    labels: Labels


class HeldDatasets:
    """Fetches labels, and stores the data sets that had to wait for them.

    What is held back stays unacknowledged: a collector that dies leaves it to the next one.
    """

    def __init__(
        self,
        blobs: BlobStore,
        link: Link,
        database: Database,
        store: Callable[[Batch], Awaitable[None]],
    ) -> None:
        self._blobs = blobs
        self._link = link
        self._database = database
        self._store = store
        self._fetching: dict[str, asyncio.Task[FetchedLabels | NoLabels]] = {}
        self._held: set[asyncio.Task[None]] = set()
        self._closing = threading.Event()
        self.failed = asyncio.Event()
        """Set when one of them could not be stored; `close` raises why."""

        self._failure: BaseException | None = None

    async def hold_back(
        self, deliveries: Sequence[Delivery], messages: Sequence[Incoming]
    ) -> Batch:
        """What can be stored now; the rest is stored as its labels come. Raises Stopping."""
        coming = await self._begin(messages)
        if not coming:
            return Batch(deliveries, messages, {})
        await asyncio.wait(coming.values(), timeout=HELD_UP_SECONDS)
        labels = {key: task.result() for key, task in coming.items() if task.done()}
        now: list[tuple[Delivery, Incoming]] = []
        for delivery, item in zip(deliveries, messages, strict=True):
            key = item.message.message_id if isinstance(item.message, DataReady) else None
            if key in coming and key not in labels:
                self._hold(delivery, item, key, coming[key])
            else:
                now.append((delivery, item))
        return Batch([delivery for delivery, _ in now], [item for _, item in now], labels)

    async def close(self) -> None:
        """Break off; what is held back goes back to its queue. Raises what went wrong before."""
        self._closing.set()
        tasks = [*self._held, *self._fetching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def _begin(
        self, messages: Sequence[Incoming]
    ) -> dict[str, asyncio.Task[FetchedLabels | NoLabels]]:
        """Fetch what is wanted and not on its way; all that these messages wait for."""
        coming: dict[str, asyncio.Task[FetchedLabels | NoLabels]] = {}
        for item in messages:
            message = item.message
            if not isinstance(message, DataReady) or message.message_id in coming:
                continue
            key = message.message_id
            if not await self._database.insist(_wanted, self._database.engine, message):
                continue
            task = self._fetching.get(key)
            if task is None:
                task = asyncio.create_task(self._fetched(message.manifest), name=f"labels-{key}")
                self._fetching[key] = task
                task.add_done_callback(partial(self._fetched_once, key))
            coming[key] = task
        return coming

    def _hold(
        self,
        delivery: Delivery,
        item: Incoming,
        key: str,
        coming: asyncio.Task[FetchedLabels | NoLabels],
    ) -> None:
        async def store_later() -> None:
            labels = await asyncio.shield(coming)
            # Another channel's delivery: RabbitMQ has sent it again, and that one is held, too.
            if delivery.is_live:
                await self._store(Batch([delivery], [item], {key: labels}))

        task = asyncio.create_task(store_later(), name=f"held-{key}")
        self._held.add(task)
        task.add_done_callback(self._ended)
        logger.info(
            "a data set waits for its labels",
            extra={"action": "dataset_held", "message_id": key},
        )

    def _fetched_once(self, key: str, _task: object) -> None:
        del self._fetching[key]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._held.discard(task)
        if task.cancelled():
            return
        fault = task.exception()
        if fault is not None and not isinstance(fault, Stopping):
            self._failure = self._failure or fault
            self.failed.set()

    async def _fetched(self, manifest: Manifest) -> FetchedLabels | NoLabels:
        tries = 0
        while True:
            try:
                return await asyncio.to_thread(fetch_labels, self._blobs, manifest, self._go_on)
            except BlobError as error:
                # What is away says nothing about the blob.
                if not isinstance(error, StoreUnreachable):
                    tries += self._link.is_connected
                logger.warning(str(error), extra={"action": "labels_not_fetched"})
                if tries == FETCH_TRIES:
                    return NoLabels(str(error))
            await self._database.pause(AGAIN_SECONDS)

    def _go_on(self, _bytes: int) -> None:
        if self._closing.is_set():
            raise BlobError("the collector is stopping")


def _wanted(engine: Engine, message: DataReady) -> bool:
    with snapshot(engine) as connection:
        return wanted_labels(connection, message)
