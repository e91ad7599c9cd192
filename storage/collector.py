"""The collector: takes what is published and reported, commits it, then acknowledges it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from broker.blob_store import BlobStore
from broker.delivery import Delivery, ack_all
from broker.link import Link
from schemas.errors import DatabaseAway, MessageError
from schemas.events import WorkerHeartbeat
from schemas.requests import ErrorReply
from schemas.settings import Settings
from schemas.topology import (
    COLLECTOR_QUEUE,
    EVENTS,
    KEY_HEARTBEAT,
    Binding,
    ClassicQueue,
    heartbeats_queue,
)
from schemas.wire import Envelope, unpack
from storage import upkeep
from storage.accepted import AcceptedWork
from storage.answers import Answers
from storage.apply import Applied, Rules, apply_batch, set_aside
from storage.batches import PROGRESS_SECONDS, READ_BYTES, cut, patience
from storage.database import Database, Stopping
from storage.engine import transaction
from storage.fold_events import FoldRules
from storage.gauges import measure
from storage.held_datasets import Batch, HeldDatasets
from storage.incoming import Incoming, read
from storage.labels import LabelsCache
from storage.liveness import show_life
from storage.lookout import Lookout, Seen
from storage.malformed import readable_run_id
from storage.pending import Pending
from storage.preparation import Preparation
from storage.publisher import OutboxPublisher
from storage.replies import Replies
from storage.sweep import Sweep
from storage.telling import tell
from storage.workers import WRITE_SECONDS, Workers, write_heartbeats

logger = logging.getLogger(__name__)

PREFETCH = 200

DRAIN_SECONDS = 5.0
"""How long a collector that stops goes on publishing its outbox."""

CONNECTION_LOOK_SECONDS = 1.0
DAY_SECONDS = 24 * 3600.0


class Collector:
    """Stores verdicts and answers requests; use `run`.

    Its queue has a single active consumer: a second collector is a hot standby.
    """

    def __init__(
        self, link: Link, replies: Link, url: str, engine: Engine, settings: Settings
    ) -> None:
        """replies: for replies alone."""
        self._link = link
        self._settings = settings
        self._engine = engine
        self._stopping = asyncio.Event()
        self._database = Database(engine, self._stopping)
        self._pending = Pending()
        self._feed = link.feed(COLLECTOR_QUEUE, prefetch=PREFETCH)
        self._publisher = OutboxPublisher(link, self._database, self._pending, self._is_ours)
        self._lookout = Lookout(self._database, self._pending, self._publisher.view, self._look)
        # Workers look at one another with the same patience; a beat less here makes sure that
        # whoever takes a fold over is not judged before the one he takes it over from.
        silence = settings.worker_lost_after_seconds - settings.heartbeat_seconds
        self._workers = Workers(max(silence, settings.heartbeat_seconds))
        labels = LabelsCache()
        self._fold_rules = FoldRules(settings.max_attempts, self._workers.is_alive, labels)
        self._answers = Answers(engine, labels, self._workers, self._pending.removable)
        self._preparation = Preparation(link)
        blobs = BlobStore.of(settings, url)
        self._held = HeldDatasets(blobs, link, self._database, self._commit, self._is_ours)
        self._accepted = AcceptedWork(self._database, blobs, self._publisher, self._is_ours)
        self._sweep = Sweep(self._database, blobs)
        self._replies = Replies(replies)

    def stop(self) -> None:
        """Finish what is being stored, publish it, and return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Collect until `stop`. Raises TopologyError when the broker is not set up."""
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        collecting = asyncio.create_task(self._collect(), name="collect")
        others = [
            asyncio.create_task(_until_stopping(loop), name=name)
            for name, loop in (
                ("heartbeats", self._hear()),
                ("silence", self._notice_silence()),
                ("outbox", self._publisher.run()),
                ("lookout", self._lookout.run()),
                ("uploads", self._accepted.upload()),
                ("waiting-folds", self._accepted.release_folds()),
                ("heartbeats-writing", self._write_heartbeats()),
                ("held-datasets", self._held.run()),
                ("sweep", self._sweep.run()),
                ("daily", self._daily()),
                ("pulse", show_life(self._link, self._database, self._settings)),
                (
                    "measuring",
                    measure(self._database, self._pending, self._workers, self._settings),
                ),
            )
        ]
        try:
            await asyncio.wait({stopping, collecting, *others}, return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            await asyncio.wait({collecting})
            await self._drain_at_the_end()
        finally:
            await self._replies.close()
            for task in (stopping, collecting, *others):
                task.cancel()
            ended = await asyncio.gather(
                self._held.close(), stopping, collecting, *others, return_exceptions=True
            )
            self._database.close()
        for result in ended:
            if isinstance(result, Exception):
                raise result

    def _is_ours(self) -> bool:
        """Being given deliveries is being at work, until another one may have taken over."""
        return self._feed.is_served

    async def _collect(self) -> None:
        feed = self._feed
        try:
            while not self._stopping.is_set():
                waiting = asyncio.ensure_future(
                    feed.batch(PREFETCH, PROGRESS_SECONDS, patience=patience)
                )
                stopping = asyncio.ensure_future(self._stopping.wait())
                await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if not waiting.done():
                    waiting.cancel()
                    break
                for batch in cut(waiting.result()):
                    await self._store(batch)
        except Stopping:
            logger.warning("stopped while the database is away", extra={"action": "stopped_away"})
        finally:
            # What is not acknowledged goes back to the queue.
            await feed.close()

    async def _store(self, deliveries: Sequence[Delivery]) -> None:
        envelopes = [delivery.envelope for delivery in deliveries]
        if sum(len(envelope.body) for envelope in envelopes) <= READ_BYTES:
            messages = [read(envelope) for envelope in envelopes]
        else:
            messages = await self._database.call(lambda: [read(each) for each in envelopes])
        batch = await self._held.hold_back(deliveries, messages)
        if batch.deliveries:
            await self._commit(batch)

    async def _commit(self, batch: Batch) -> None:
        """Commit, then acknowledge, then say so."""
        since = time.monotonic()
        unknown_pools = await self._preparation.unknown_pools(batch.messages)
        rules = Rules(self._fold_rules, batch.labels, unknown_pools)
        applied = await self._apply(batch.messages, rules)
        await ack_all(batch.deliveries)
        self._publisher.publish(applied.outbox)
        tell(batch.messages, applied, time.monotonic() - since)
        if applied.swept:
            self._sweep.look()
        for envelope, message in applied.replies:
            self._replies.send(envelope, message)
        for envelope, request in applied.requests:
            self._replies.send(envelope, await self._database.call(self._answers.reply, request))

    async def _apply(self, batch: Sequence[Incoming], rules: Rules) -> Applied:
        try:
            return await self._database.insist(self._apply_now, batch, rules)
        except (DatabaseAway, Stopping):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other messages go on
            if len(batch) == 1:
                return await self._set_aside(batch[0], error)
        # Some message of the batch is at fault: each goes alone, so that only that one is lost.
        applied = Applied()
        for item in batch:
            applied += await self._apply([item], rules)
        return applied

    def _apply_now(self, batch: Sequence[Incoming], rules: Rules) -> Applied:
        published = self._pending.removable()
        return self._pending.committed(apply_batch(self._engine, batch, rules, published))

    def _set_aside_now(self, envelope: Envelope, reason: str) -> Applied:
        return self._pending.committed(set_aside(self._engine, envelope, reason))

    def _look(self, seen: Seen) -> None:
        self._accepted.look(seen)
        if seen.outbox:
            self._publisher.look()
        if seen.held_datasets:
            self._held.look()

    async def _set_aside(self, item: Incoming, error: Exception) -> Applied:
        reason = f"it cannot be stored: {error}"
        logger.error(
            "message set aside",
            extra={
                "action": "message_refused",
                "reason": reason,
                "run_id": readable_run_id(item.envelope),
                "type": item.envelope.type,
            },
            exc_info=error,
        )
        applied = await self._database.insist(self._set_aside_now, item.envelope, reason)
        if item.envelope.reply_to:
            applied.replies.append((item.envelope, ErrorReply(message=reason)))
        return applied

    async def _hear(self) -> None:
        # A queue of its own: a standby must know who is alive when it takes over.
        queue = ClassicQueue(
            heartbeats_queue(self._link.name),
            durable=False,
            exclusive=True,
            max_length=10_000,
            message_ttl_ms=60_000,
        )
        feed = self._link.feed(
            queue.name,
            prefetch=PREFETCH,
            own=queue,
            bindings=(Binding(EVENTS, queue.name, KEY_HEARTBEAT),),
        )
        while True:
            deliveries = await feed.batch(PREFETCH, 0)
            for delivery in deliveries:
                try:
                    heartbeat = unpack(delivery.envelope)
                except MessageError as error:
                    logger.warning(str(error), extra={"action": "heartbeat_ignored"})
                    continue
                if isinstance(heartbeat, WorkerHeartbeat):
                    self._workers.hear(heartbeat)
            await ack_all(deliveries)

    async def _notice_silence(self) -> None:
        """While there is no connection, silence says nothing about the workers."""
        self._workers.listen()
        while True:
            await self._database.pause(CONNECTION_LOOK_SECONDS)
            if not self._link.is_connected:
                self._workers.listen()

    async def _write_heartbeats(self) -> None:
        while True:
            await self._database.pause(WRITE_SECONDS)
            if rows := self._workers.take_unwritten():
                await self._database.insist(self._in_transaction, write_heartbeats, rows)

    async def _daily(self) -> None:
        retention = timedelta(seconds=self._settings.retain_superseded_seconds)
        while True:
            now = datetime.now(UTC)
            await self._database.insist(
                self._in_transaction, upkeep.withdraw_superseded, now, retention
            )
            await self._database.insist(self._in_transaction, upkeep.repeat_state, now)
            await self._database.insist(self._in_transaction, upkeep.prune, now)
            await self._database.pause(DAY_SECONDS)

    async def _drain_at_the_end(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._publisher.finish()
                await self._replies.drain()
        except (TimeoutError, Stopping, DatabaseAway):
            logger.info("the outbox is left to the next collector", extra={"action": "outbox_left"})

    def _in_transaction(self, function: Any, *arguments: Any) -> None:
        with transaction(self._engine) as connection:
            function(connection, *arguments)


async def _until_stopping(loop: Coroutine[Any, Any, None]) -> None:
    try:
        await loop
    except Stopping:
        return
