"""Who runs what: says it of this worker, hears it of others, hears which runs have ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.delivery import ack_all
from broker.link import Link
from broker.pulse import Pulse
from consumer.delivery.reading import RecentIds
from schemas.errors import BrokerError, MessageError
from schemas.events import RunningFold, WorkerHeartbeat
from schemas.frozen import Message
from schemas.results import FoldResult
from schemas.settings import Settings
from schemas.states import Role
from schemas.topology import (
    EVENTS,
    KEY_HEARTBEAT,
    RESULTS,
    SERVER_NAMED,
    Binding,
    ClassicQueue,
)
from schemas.wire import pack, unpack

logger = logging.getLogger(__name__)

_PREFETCH = 200
_OWN_QUEUE_LENGTH = 20_000
_REST_SECONDS = 0.05
"""After each look at its queue: what comes meanwhile is heard, and acked, together."""

_STARTS_PER_HEARTBEAT = 5
"""A heartbeat goes out soon after folds start or end, at most so many in one interval."""


@dataclass(frozen=True)
class _Heard:
    """The last heartbeat of another worker."""

    at: float
    named: Mapping[str, float]
    """Run ids, and when it last said that it runs them."""


class Heartbeats:
    """This worker's heartbeats, and what it hears on its own queue.

    on_result: called with the run id of each stored verdict. pulse: beats when a heartbeat of this
    worker has come back: then it can publish and is delivered to.
    """

    def __init__(
        self,
        link: Link,
        settings: Settings,
        role: Role,
        *,
        slots: int,
        running: Callable[[], tuple[RunningFold, ...]],
        on_result: Callable[[str], None],
        pulse: Pulse,
    ) -> None:
        self._link = link
        self._settings = settings
        self._role = role
        self._slots = slots
        self._running = running
        self._on_result = on_result
        self._pulse = pulse
        self._host = socket.gethostname()
        self._began = time.monotonic()
        self._others: dict[str, _Heard] = {}
        self._ended = RecentIds()
        self._own_heard: float | None = None
        self._was_deaf = False
        self._own_said_at = datetime.min.replace(tzinfo=UTC)
        self._hearing_since: float | None = None
        self._heard_own = asyncio.Event()
        self._changed = asyncio.Event()
        self._stopping = False
        self.tasks: tuple[asyncio.Task[None], ...] = ()
        """They end only by `close`, or when something is wrong with the worker."""

        queue = ClassicQueue(
            SERVER_NAMED, max_length=_OWN_QUEUE_LENGTH, durable=False, exclusive=True
        )
        bindings = [Binding(EVENTS, queue.name, KEY_HEARTBEAT)]
        if role is Role.FOLDS:
            bindings.append(Binding(RESULTS, queue.name, "fold.#"))
        self._feed = link.feed(
            queue.name,
            prefetch=_PREFETCH,
            own=queue,
            bindings=tuple(bindings),
        )

    def start(self) -> None:
        """Begin to listen and to beat."""
        self.tasks = (
            asyncio.create_task(self._listen(), name="heartbeats-listen"),
            asyncio.create_task(self._beat(), name="heartbeats-beat"),
        )

    def stopping(self) -> None:
        """Tell the others that this worker takes no further folds."""
        self._stopping = True
        self.folds_changed()

    async def close(self) -> None:
        """Say goodbye, once, and stop."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._link.is_connected:
            await self._say(stopped=True)
        await self._feed.close()

    def folds_changed(self) -> None:
        """A fold has started or ended: the next heartbeat goes out early."""
        self._changed.set()

    def remember_ended(self, run_id: str) -> None:
        """This run has its verdict; a delivery of it is acked and dropped."""
        self._ended.add(run_id)

    def has_ended(self, run_id: str) -> bool:
        """Whether the verdict of this run is stored, or was published here."""
        return run_id in self._ended

    def runner(self, run_id: str) -> str | None:
        """The other worker that runs this run, as long as its heartbeats come.

        A run that it no longer names has probably ended: its verdict is on the way, for which
        as much time is given.
        """
        now = time.monotonic()
        for name, heard in list(self._others.items()):
            # While this worker was deaf, nobody else could be heard either.
            silent_since = max(heard.at, self._hearing_since or now)
            if now - silent_since > self._settings.worker_lost_after_seconds:
                del self._others[name]
            elif run_id in heard.named:
                return name
        return None

    async def heard_everybody(self) -> None:
        """Wait until each living worker must have said what it runs.

        A worker that hears nothing, not even itself, goes on after `worker_lost_after_seconds`:
        what it runs a second time does no harm, since the collector takes one verdict.
        """
        patience = time.monotonic() + self._settings.worker_lost_after_seconds
        while (missing := self._unheard_seconds()) > 0 and time.monotonic() < patience:
            await self._wait_for_own(missing)
        # What the others have said until now is heard when our own word comes back.
        said_at = await self._say()
        while self._own_said_at < said_at and time.monotonic() < patience:
            await self._wait_for_own(self._settings.heartbeat_seconds)

    async def _wait_for_own(self, seconds: float) -> None:
        """Until a heartbeat of this worker comes back, but no longer than this."""
        self._heard_own.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard_own.wait()

    def _unheard_seconds(self) -> float:
        interval = self._settings.heartbeat_seconds
        now = time.monotonic()
        if self._own_heard is None or self._hearing_since is None:
            return interval
        if now - self._own_heard > 2 * interval:
            return interval
        # Who was deaf himself gives the others the time to come back, too: a broker that was
        # restarted has lost everybody's connection.
        silence = self._settings.worker_lost_after_seconds if self._was_deaf else 1.2 * interval
        return self._hearing_since + silence - now

    async def _beat(self) -> None:
        interval = self._settings.heartbeat_seconds
        while True:
            self._changed.clear()
            await self._say()
            await asyncio.sleep(interval / _STARTS_PER_HEARTBEAT)
            try:
                async with asyncio.timeout(interval * (1 - 1 / _STARTS_PER_HEARTBEAT)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _say(self, *, stopped: bool = False) -> datetime:
        """Publish a heartbeat; returns the moment that it names."""
        heartbeat = WorkerHeartbeat(
            worker=self._link.name,
            role=self._role,
            pool=self._settings.pool,
            host=self._host,
            pid=os.getpid(),
            slots=self._slots,
            running=() if stopped else self._running(),
            stopping=self._stopping,
            stopped=stopped,
            at=datetime.now(UTC),
        )
        envelope = pack(
            heartbeat,
            KEY_HEARTBEAT,
            app_id=self._link.name,
            persistent=False,
            expiration=self._settings.worker_lost_after_seconds,
        )
        try:
            # One that is late is replaced by the next one.
            await self._link.publish(EVENTS, envelope, deadline=self._settings.heartbeat_seconds)
        except BrokerError as error:
            # Services start at the same time: until the first one listens, nobody takes it.
            is_starting = time.monotonic() - self._began < self._settings.worker_lost_after_seconds
            logger.log(
                logging.INFO if is_starting else logging.WARNING,
                "heartbeat not sent: %s",
                error,
                extra={"action": "heartbeat_not_sent", "worker": self._link.name},
            )
        return heartbeat.at

    async def _listen(self) -> None:
        while True:
            deliveries = await self._feed.batch(_PREFETCH, 0)
            for delivery in deliveries:
                try:
                    self._hear(unpack(delivery.envelope))
                except MessageError as error:
                    logger.warning(
                        "not understood on the worker's own queue: %s",
                        error,
                        extra={"action": "own_queue_ignored", "worker": self._link.name},
                    )
            await ack_all(deliveries)
            await asyncio.sleep(_REST_SECONDS)

    def _hear(self, message: Message) -> None:
        match message:
            case FoldResult(run_id=run_id):
                self._ended.add(run_id)
                self._on_result(run_id)
            case WorkerHeartbeat() if message.worker == self._link.name:
                now = time.monotonic()
                gap = 2 * self._settings.heartbeat_seconds
                if self._own_heard is None or now - self._own_heard > gap:
                    self._was_deaf = self._own_heard is not None
                    self._hearing_since = now
                self._own_heard = now
                self._own_said_at = message.at
                self._heard_own.set()
                self._pulse.beat()
            case WorkerHeartbeat(worker=worker):
                if message.stopped:
                    self._others.pop(worker, None)
                else:
                    self._others[worker] = self._heard(message)

    def _heard(self, message: WorkerHeartbeat) -> _Heard:
        now = time.monotonic()
        named = {fold.run_id: now for fold in message.running}
        before = self._others.get(message.worker)
        # A worker that stops may have given its folds back: nobody waits for those.
        if before is not None and not message.stopping:
            horizon = now - self._settings.worker_lost_after_seconds
            named = {run: at for run, at in before.named.items() if at > horizon} | named
        return _Heard(now, named)
