"""A line between a client and a server that can be cut, stalled and slowed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

PIECE = 16 * 1024


class TcpProxy:
    """Listens on `port` of the loopback interface and passes bytes on to `target`.

    cut():      every connection is reset, and new ones are refused, until mend()
    stall():    connections stay open and nothing passes, as on a line that has died, until mend()
    slow(rate): at most `rate` bytes a second in each direction of each connection, until mend()
    reset():    every connection is reset; new ones pass
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._half_closed: set[socket.socket] = set()
        self._refusing = False
        self._closed = False
        self._rate: float | None = None
        self._flowing = threading.Event()
        self._flowing.set()
        self.accepted = 0
        """How many connections have been passed on since the start."""

        threading.Thread(target=self._accept, daemon=True, name="proxy-accept").start()

    def cut(self) -> None:
        self._refusing = True
        self.reset()

    def stall(self) -> None:
        self._flowing.clear()

    def slow(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second

    def mend(self) -> None:
        self._refusing = False
        self._rate = None
        self._flowing.set()

    def reset(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            _reset(end)

    def connections(self) -> int:
        """Connections that are open now."""
        with self._lock:
            return len(self._sockets) // 2

    def close(self) -> None:
        self._closed = True
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            self.accepted += 1
            if self._refusing:  # cut between accept and here
                self.reset()
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pass_on, args=(source, sink), daemon=True, name="proxy-line"
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(PIECE):
                self._flowing.wait()
                if (rate := self._rate) is not None:
                    time.sleep(len(piece) / rate)
                    self._flowing.wait()
                sink.sendall(piece)
            self._pass_on_the_end(source, sink)
            return
        except OSError:
            pass  # reset by either side, or by us: the other side hears of it now
        with self._lock:
            self._sockets -= {source, sink}
            self._half_closed -= {source, sink}
        _reset(source)
        _reset(sink)

    def _pass_on_the_end(self, source: socket.socket, sink: socket.socket) -> None:
        """Pass on that `source` says no more; the other way may still be in use."""
        with self._lock:
            if source not in self._sockets:
                raise ConnectionResetError("reset() made recv return")
            self._half_closed.add(source)
            both = sink in self._half_closed
        sink.shutdown(socket.SHUT_WR)
        if both:
            with self._lock:
                self._sockets -= {source, sink}
                self._half_closed -= {source, sink}
            source.close()
            sink.close()


def _reset(end: socket.socket) -> None:
    """Close with RST instead of FIN, which is how a broken line shows."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Wakes the thread that waits in recv, which would keep the connection open; sends nothing.
        end.shutdown(socket.SHUT_RD)
    end.close()


@pytest.fixture
def proxy() -> Iterator[Callable[[int], TcpProxy]]:
    """Makes a proxy to a port of this machine: `line = proxy(rabbitmq.amqp_port)`."""
    proxies: list[TcpProxy] = []

    def connect(port: int) -> TcpProxy:
        proxies.append(TcpProxy(("127.0.0.1", port)))
        return proxies[-1]

    yield connect
    for one in proxies:
        one.close()
