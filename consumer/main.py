"""A worker process, from its first connection to its last signal."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from broker.blob_store import BlobStore
from broker.control import ControlStream
from broker.event_loop import run_service
from broker.file_systems import warn_of_missing_folder
from broker.link import Link
from broker.metrics import serving_metrics
from broker.pulse import Pulse
from broker.setup import queue_exists
from consumer.cache import DatasetCache
from consumer.delivery.catalogue import Catalogue
from consumer.delivery.fold_limits import FoldLimits, host_memory, longest_hold
from consumer.delivery.fold_worker import FoldWorker
from consumer.delivery.heartbeats import Heartbeats
from consumer.delivery.prepare_worker import PrepareWorker
from consumer.delivery.slot_run import Workplace
from consumer.delivery.transfers import Transfers
from consumer.execution.executor import FoldExecutor
from consumer.preparation.prepare import prepare_dataset
from consumer.scratch import scratch_folder
from consumer.stop_requests import StopRequests
from schemas.datasets import Part
from schemas.errors import TopologyError
from schemas.events import RunningFold
from schemas.permissions import BrokerUser
from schemas.settings import Settings, broker_url
from schemas.states import Isolation, Role
from schemas.topology import DATA_QUEUE, folds_queue

logger = logging.getLogger(__name__)

STORE_PATIENCE = 3.0
"""How long a slot waits for an object store that is away; then its fold goes round by the waiting
queue, and the slot is free for those whose data sets are here."""

RETURN_SECONDS = 10.0
"""How long a worker that shuts down waits until the broker has back what it gives back."""


Tasks = tuple[asyncio.Task[Any], ...]


class Worker(Protocol):
    """What both roles can be asked to do."""

    def running(self) -> tuple[RunningFold, ...]:
        """The folds in its slots."""

    def not_wanted(self, run_id: str) -> None:
        """This run is cancelled, or its verdict is stored."""

    async def work(self, heartbeats: Heartbeats) -> None:
        """Take work until `take_no_more`; return when all of it is settled."""

    def take_no_more(self) -> None:
        """Go on only with what is running."""

    def give_back(self) -> None:
        """Kill what runs, and give it back to its queue."""


def run_worker(
    settings: Settings,
    role: Role,
    *,
    name: str | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Work until SIGTERM or SIGINT; the first lets running folds finish for `grace_seconds`.

    A second signal, or the end of that time, gives them back to their queue. Raises
    BrokerUnreachable or TopologyError when it cannot start, and ConfigurationError when the port
    for metrics is taken.
    """
    warn_of_missing_folder(settings.blobs)
    with serving_metrics(settings):
        run_service(serve(settings, role, name=name, on_ready=on_ready))


async def serve(
    settings: Settings,
    role: Role,
    *,
    name: str | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """`run_worker` inside a running event loop, whose signals it takes over meanwhile."""
    name = name or f"{role}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    stop = StopRequests()
    with stop.by_signal(), scratch_folder(settings.home.resolve() / "scratch", name) as scratch:
        try:
            async with _started(settings, role, name, scratch) as (worker, heartbeats, vital):
                stop.is_working = True
                ids = {"action": "worker_ready", "worker": name, "role": role, "pid": os.getpid()}
                logger.info("worker ready", extra=ids)
                if on_ready is not None:
                    on_ready()
                await _work(worker, heartbeats, vital, stop, settings.grace_seconds)
        except asyncio.CancelledError:
            if not stop.first.is_set():
                raise
    logger.info("worker stopped", extra={"action": "worker_stopped", "worker": name})


async def _work(
    worker: Worker,
    heartbeats: Heartbeats,
    vital: Tasks,
    stop: StopRequests,
    grace_seconds: float,
) -> None:
    """Work until the first request to stop, then wind up. Raises when a vital task has failed."""
    work = asyncio.create_task(worker.work(heartbeats), name="work")
    first = asyncio.create_task(stop.first.wait())
    second = asyncio.create_task(stop.second.wait())
    try:
        either = {work, first, *vital}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for task in vital:
            if task.done():
                task.result()
        if not work.done():
            running = len(worker.running())
            logger.info("stopping", extra={"action": "worker_stopping", "running": running})
            worker.take_no_more()
            heartbeats.stopping()
            await asyncio.wait(
                {work, second}, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        if not work.done():
            worker.give_back()
            await asyncio.wait({work}, timeout=RETURN_SECONDS)
        if work.done():
            work.result()
    finally:
        # What is not settled by now, RabbitMQ requeues when the connection closes.
        own: Tasks = (work, first, second)
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)


@asynccontextmanager
async def _started(
    settings: Settings, role: Role, name: str, scratch: Path
) -> AsyncIterator[tuple[Worker, Heartbeats, Tasks]]:
    """Everything a worker needs, up to date and warm; and all of it closed again.

    Also the tasks without which it must not go on: nobody would hear that it lives, and run again
    what runs here, or it would not hear of new data sets and of what is cancelled.
    """
    chosen = settings.broker.get_secret_value() if settings.broker else None
    url = broker_url(chosen, BrokerUser.of_worker(role))
    async with AsyncExitStack() as stack:
        pulse = stack.enter_context(Pulse(settings.pulse))
        link = Link(url, name=name, connect_timeout=settings.connect_timeout_seconds)
        await stack.enter_async_context(link)
        queue = folds_queue(settings.pool) if role is Role.FOLDS else DATA_QUEUE
        if not await queue_exists(link, queue):
            raise TopologyError(f"queue {queue!r} does not exist: run `datarun broker setup`")
        worker: Worker
        vital: Tasks = ()
        if role is Role.FOLDS:
            slots = settings.slots or len(os.sched_getaffinity(0))
            worker, control = await _folds_worker(stack, settings, link, url, slots, scratch)
            vital = (control.reading,)
        else:
            slots = 1
            worker = _prepare_worker(settings, link, url, scratch)
        heartbeats = Heartbeats(
            link,
            settings,
            role,
            slots=slots,
            running=worker.running,
            on_result=worker.not_wanted,
            pulse=pulse,
        )
        heartbeats.start()
        stack.push_async_callback(heartbeats.close)
        yield worker, heartbeats, (*vital, *heartbeats.tasks)


async def _folds_worker(
    stack: AsyncExitStack, settings: Settings, link: Link, url: str, slots: int, scratch: Path
) -> tuple[FoldWorker, ControlStream]:
    threads = max(1, len(os.sched_getaffinity(0)) // slots)
    executor = FoldExecutor(
        slots=slots,
        isolation=settings.isolation or Isolation.STRICT,
        threads_per_slot=threads,
        scratch=scratch,
    )
    stack.push_async_callback(executor.close)

    blobs = BlobStore.of(settings, url, patience=STORE_PATIENCE)

    def fetch(part: Part, target: BinaryIO, go_on: Callable[[int], None]) -> None:
        blobs.read(
            part.visibility,
            part.blob,
            target,
            size=part.size,
            sha256=part.sha256,
            on_progress=go_on,
        )

    folder = settings.cache or settings.home / "cache"
    cache = DatasetCache(folder.resolve(), settings.cache_bytes, fetch)
    stack.push_async_callback(cache.close)
    catalogue = Catalogue(lambda run_id: worker.not_wanted(run_id))
    limits = FoldLimits.of(settings, link.server, slots, threads)
    place = Workplace(link, executor, cache, catalogue, limits)
    worker = FoldWorker(place, settings.pool, slots)
    control = ControlStream(link)
    stack.push_async_callback(control.close)
    await control.catch_up(catalogue.receive, settings.connect_timeout_seconds)
    await executor.start()
    return worker, control


def _prepare_worker(settings: Settings, link: Link, url: str, scratch: Path) -> PrepareWorker:
    wall = settings.prepare_wall_seconds
    longest = longest_hold(settings, link.server)
    if longest is not None and wall > longest:
        logger.warning(
            "splitting a data set may take %.0f s, not %.0f: RabbitMQ's consumer_timeout would "
            "take it away. Raise it in rabbitmq.conf and set DATARUN_CONSUMER_TIMEOUT_RAISED=true",
            longest,
            wall,
            extra={"action": "prepare_limit_lowered"},
        )
        wall = longest
    prepare = partial(
        prepare_dataset,
        isolation=settings.isolation or Isolation.STRICT,
        wall_seconds=wall,
        memory_bytes=settings.memory_bytes or host_memory(),
    )
    transfers = Transfers(link, BlobStore.of(settings, url))
    return PrepareWorker(link, transfers, prepare, scratch, settings.max_attempts, wall, longest)
