"""A collector process, from its first connection to its last signal."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable

from broker.event_loop import run_service
from broker.file_systems import warn_of_missing_folder
from broker.link import Link
from broker.metrics import serving_metrics
from schemas.permissions import BrokerUser
from schemas.settings import Settings, broker_url
from storage.collector import Collector
from storage.database import upgraded
from storage.engine import database_url, open_engine

logger = logging.getLogger(__name__)


def run_collector(settings: Settings, *, on_ready: Callable[[], None] | None = None) -> None:
    """Collect until SIGTERM or SIGINT; what is committed by then is acknowledged and published.

    on_ready is called when the database is at its latest version and RabbitMQ is connected.
    Raises ConfigurationError, StorageError, BrokerUnreachable or TopologyError when it cannot
    start.
    """
    warn_of_missing_folder(settings.blobs)
    with serving_metrics(settings):
        run_service(_run(settings, on_ready))


async def _run(settings: Settings, on_ready: Callable[[], None] | None) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    chosen = settings.broker.get_secret_value() if settings.broker else None
    url = broker_url(chosen, BrokerUser.COLLECTOR)
    engine = open_engine(database_url(settings))
    if not await upgraded(engine, stopped):
        return
    name = f"collector-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    patience = settings.connect_timeout_seconds
    async with (
        Link(url, name=name, connect_timeout=patience) as link,
        Link(url, name=f"{name}-replies", connect_timeout=patience) as replies,
    ):
        collector = Collector(link, replies, url, engine, settings)
        running = asyncio.create_task(collector.run(), name="collector")
        stopping = asyncio.create_task(stopped.wait())
        ids = {"action": "collector_ready", "collector": name, "pid": os.getpid()}
        logger.info("collector ready", extra=ids)
        if on_ready is not None:
            on_ready()
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        collector.stop()
        stopping.cancel()
        await running
    logger.info("collector stopped", extra={"action": "collector_stopped", "collector": name})
