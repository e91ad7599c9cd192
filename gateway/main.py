"""A gateway process, from its first look at the database to its last signal."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from sqlalchemy import Engine
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from broker.event_loop import run_service
from gateway.allocation import return_large_blocks
from gateway.app import make_app
from gateway.database import Database
from gateway.listener import DEFAULT_PORT, bound
from gateway.service import Service
from gateway.streamed_list import UNACKNOWLEDGED
from schemas.settings import Settings
from storage.database import upgraded
from storage.engine import database_url, open_engine

logger = logging.getLogger(__name__)

CONNECTIONS = 10
"""To the database: more requests than that wait for one another."""

KEEP_ALIVE_SECONDS = 75
"""Longer than clients that poll every minute wait: who reuses a connection at the moment when it is
closed gets no answer."""

STOP_SECONDS = 5
"""How long requests that are being answered may take when the gateway is asked to stop."""


class EmptyBuffer(HttpToolsProtocol):
    """Lets an answer go on only when what was written before has left the process.

    With asyncio's default up to 64 KiB wait in it, and "the last byte was sent" would be a guess.
    https://docs.python.org/3/library/asyncio-protocol.html#asyncio.WriteTransport.set_write_buffer_limits
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)

    def on_message_begin(self) -> None:
        """A request begins: answers can ask how much of them the client's side has not taken."""
        super().on_message_begin()
        self.scope[UNACKNOWLEDGED] = self._unacknowledged  # type: ignore[literal-required]

    def _unacknowledged(self) -> int:
        connection = self.transport.get_extra_info("socket")
        if self.transport.is_closing():
            return 1  # Of which the application hears in a moment.
        if connection is None:
            return 0
        # SIOCOUTQ, https://man7.org/linux/man-pages/man7/tcp.7.html
        (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))
        return int(count)


class Server(uvicorn.Server):
    """Leaves signals to whoever runs it: uvicorn would raise them again once it has ended."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def run_gateway(settings: Settings, *, on_ready: Callable[[], None] | None = None) -> None:
    """Answer requests until SIGTERM or SIGINT.

    Raises ConfigurationError when the port is taken, StorageError when the database cannot be used.
    """
    return_large_blocks()
    engine = open_engine(database_url(settings), CONNECTIONS)
    port = settings.gateway_port or DEFAULT_PORT
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    listener = bound(settings.gateway_host, port)
    service = Service.of(Database(engine), settings)
    server = Server(
        uvicorn.Config(
            make_app(service, settings),
            http=EmptyBuffer,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=settings.log_level == "DEBUG",
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
        )
    )
    try:
        run_service(_serve(server, engine, listener, on_ready))
    finally:
        listener.close()
        service.database.close()


async def _serve(
    server: uvicorn.Server,
    engine: Engine,
    listener: socket.socket,
    on_ready: Callable[[], None] | None,
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if not await upgraded(engine, stopped):
        return
    serving = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(stopped.wait())
    logger.info(
        "gateway ready",
        extra={"action": "gateway_ready", "port": listener.getsockname()[1]},
    )
    if on_ready is not None:
        on_ready()
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving
    logger.info("gateway stopped", extra={"action": "gateway_stopped"})
