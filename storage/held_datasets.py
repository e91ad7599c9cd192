"""Data sets that are reported ready, until their labels are here; other messages do not wait."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine, delete, insert, select

from broker.blob_store import BlobStore
from broker.delivery import Delivery, ack_all
from broker.link import Link
from schemas.datasets import Manifest
from schemas.errors import BlobError, DatabaseAway, StorageError, StoreUnreachable
from schemas.events import DataReady
from schemas.topology import EVENTS
from schemas.wire import Envelope
from storage.database import Database
from storage.datasets import NoLabels, wanted_labels
from storage.engine import snapshot, transaction
from storage.incoming import Incoming, read
from storage.labels import FetchedLabels, fetch_labels
from storage.lookout import OTHERS_TURN
from storage.models import HeldDataset

logger = logging.getLogger(__name__)

FETCH_TRIES = 3
AGAIN_SECONDS = 1.0
HELD_UP_SECONDS = 1.0
"""How long a batch waits for labels; then their data sets are held back, and the others go on."""

FETCHES = 4
"""Labels that are fetched at a time, in threads that nothing else needs."""

Fetching = asyncio.Task[FetchedLabels | BlobError]


@dataclass(frozen=True)
class Batch:
    """Messages that can be stored now."""

    deliveries: Sequence[Delivery]
    messages: Sequence[Incoming]
    labels: Mapping[str, FetchedLabels | NoLabels]
    """By message_id of their data set."""


class HeldDatasets:
    """Fetches labels, and stores the data sets that had to wait for them.

    What is held back is kept in the database and acknowledged: so an object store that is away for
    days holds up neither the queue nor a collector that is started meanwhile. Its row is removed
    once the data set is stored; who dies in between stores it again, which changes nothing. Nor
    does a standby's storing it: whether the store is away or the collector at work, it cannot tell.
    """

    def __init__(
        self,
        blobs: BlobStore,
        link: Link,
        database: Database,
        store: Callable[[Batch], Awaitable[None]],
        is_ours: Callable[[], bool],
    ) -> None:
        """is_ours: whether this collector is the one at work."""
        self._blobs = blobs
        self._link = link
        self._database = database
        self._store = store
        self._is_ours = is_ours
        self._seen = asyncio.Event()
        self._fetching: dict[str, Fetching] = {}
        self._threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="labels")
        self._closing = threading.Event()

    async def hold_back(
        self, deliveries: Sequence[Delivery], messages: Sequence[Incoming]
    ) -> Batch:
        """What can be stored now; the rest is kept until its labels come. Raises Stopping."""
        coming = await self._begin(messages)
        if not coming:
            return Batch(deliveries, messages, {})
        await asyncio.wait(coming.values(), timeout=HELD_UP_SECONDS)
        labels = {
            key: fetched
            for key, task in coming.items()
            if task.done() and isinstance(fetched := task.result(), FetchedLabels)
        }
        held = [
            (delivery, item.message)
            for delivery, item in zip(deliveries, messages, strict=True)
            if isinstance(item.message, DataReady)
            and item.message.message_id in coming.keys() - labels.keys()
        ]
        await self._hold(held)
        waits = {id(delivery) for delivery, _ in held}
        now = [
            (delivery, item)
            for delivery, item in zip(deliveries, messages, strict=True)
            if id(delivery) not in waits
        ]
        return Batch([delivery for delivery, _ in now], [item for _, item in now], labels)

    async def run(self) -> None:
        """Store what is held back as its labels come, until cancelled; raises Stopping."""
        engine = self._database.engine
        while True:
            self._seen.clear()
            for number in await self._database.insist(_held, engine, ours=self._is_ours()):
                await self._look_after(number)
            await self._database.pause(AGAIN_SECONDS)
            await self._seen.wait()

    def look(self) -> None:
        """Some data set is held."""
        self._seen.set()

    async def close(self) -> None:
        """Break off; what is held back is left to the next collector."""
        self._closing.set()
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _begin(self, messages: Sequence[Incoming]) -> dict[str, Fetching]:
        """Fetch what is wanted and not on its way; all that these messages wait for."""
        coming: dict[str, Fetching] = {}
        for item in messages:
            message = item.message
            if (
                isinstance(message, DataReady)
                and message.message_id not in coming
                and await self._database.insist(_wanted, self._database.engine, message)
            ):
                coming[message.message_id] = self._fetch(message)
        return coming

    async def _hold(self, held: Sequence[tuple[Delivery, DataReady]]) -> None:
        if not held:
            return
        bodies = [delivery.envelope.body for delivery, _ in held]
        await self._database.insist(_keep, self._database.engine, bodies)
        await ack_all([delivery for delivery, _ in held])
        for _, message in held:
            logger.info(
                "a data set waits for its labels",
                extra={"action": "dataset_held", "message_id": message.message_id},
            )

    async def _look_after(self, number: int) -> None:
        """Try to store one of them; a failure is waited after, since others would fail as well."""
        engine = self._database.engine
        item = await self._database.insist(_read, engine, number)
        if item is None:
            return
        labels: dict[str, FetchedLabels | NoLabels] = {}
        message = item.message
        if isinstance(message, DataReady) and await self._database.insist(_wanted, engine, message):
            fetched = await self._fetched(message)
            if fetched is None:
                return
            labels[message.message_id] = fetched
        await self._store(Batch([], [item], labels))
        await self._database.insist(_remove, engine, number)

    async def _fetched(self, message: DataReady) -> FetchedLabels | NoLabels | None:
        """None while the object store is away, which says nothing about the labels."""
        tries = 0
        while True:
            fetched = await self._fetch(message)
            if isinstance(fetched, FetchedLabels):
                return fetched
            logger.warning(str(fetched), extra={"action": "labels_not_fetched"})
            is_away = isinstance(fetched, StoreUnreachable)
            tries += not is_away and self._link.is_connected
            if tries == FETCH_TRIES:
                return NoLabels(str(fetched))
            await self._database.pause(AGAIN_SECONDS)
            if is_away:
                return None

    def _fetch(self, message: DataReady) -> Fetching:
        """One try, unless one is under way."""
        key = message.message_id
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self._try(message.manifest), name=f"labels-{key}")
            self._fetching[key] = task
            task.add_done_callback(partial(self._tried, key))
        return task

    def _tried(self, key: str, _task: object) -> None:
        del self._fetching[key]

    async def _try(self, manifest: Manifest) -> FetchedLabels | BlobError:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._threads, fetch_labels, self._blobs, manifest, self._go_on
            )
        except BlobError as error:
            return error

    def _go_on(self, _bytes: int) -> None:
        if self._closing.is_set():
            raise BlobError("the collector is stopping")


def _wanted(engine: Engine, message: DataReady) -> bool:
    try:
        with snapshot(engine) as connection:
            return wanted_labels(connection, message)
    except DatabaseAway:
        raise
    except StorageError:
        # Its own transaction will be refused, too, and then it is set aside.
        return False


def _held(engine: Engine, *, ours: bool) -> Sequence[int]:
    query = select(HeldDataset.id).order_by(HeldDataset.id)
    if not ours:
        query = query.where(HeldDataset.received_at < datetime.now(UTC) - OTHERS_TURN)
    with snapshot(engine) as connection:
        return connection.scalars(query).all()


def _keep(engine: Engine, bodies: Sequence[bytes]) -> None:
    now = datetime.now(UTC)
    with transaction(engine) as connection:
        rows = [{"body": body, "received_at": now} for body in bodies]
        connection.execute(insert(HeldDataset), rows)


def _read(engine: Engine, number: int) -> Incoming | None:
    """The message as it came; None when another collector has stored it."""
    with snapshot(engine) as connection:
        body = connection.scalar(select(HeldDataset.body).where(HeldDataset.id == number))
    if body is None:
        return None
    envelope = Envelope(body=body, routing_key="data.held", exchange=EVENTS, type=DataReady.TYPE)
    return read(envelope)


def _remove(engine: Engine, number: int) -> None:
    with transaction(engine) as connection:
        connection.execute(delete(HeldDataset).where(HeldDataset.id == number))
