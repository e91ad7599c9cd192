"""The worker's end of a fold's socket: frames come in, on the event loop, and bytes go out."""

from __future__ import annotations

import asyncio
import socket

from consumer.execution.frames import HEADER, FrameError, FrameKind

_AHEAD = 4096
"""Read with a header: most payloads come with it."""


class FrameStream:
    """Frames from a process that is not believed; one at a time is waited for.

    The socket is watched once for all of a fold's frames: to begin and to end watching takes
    longer than reading. When it has something to say that nobody waits for, it is watched no
    longer, until somebody does.
    """

    def __init__(self, connection: socket.socket) -> None:
        """connection: does not block; closed by its owner, after `close`."""
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._ahead = bytearray()
        self.is_watched = False
        self._waiting: asyncio.Future[None] | None = None

    async def header(self) -> tuple[FrameKind, int]:
        """The kind of the next frame and the length of its payload. EOFError, FrameError."""
        while len(self._ahead) < HEADER.size:
            await self._readable()
            try:
                data = self._connection.recv(_AHEAD)
            except BlockingIOError:
                continue
            if not data:
                raise EOFError("the other end closed the connection")
            self._ahead += data
        kind, length = HEADER.unpack_from(self._ahead)
        del self._ahead[: HEADER.size]
        try:
            return FrameKind(kind), length
        except ValueError as error:
            raise FrameError(f"no frame is of kind {kind}") from error

    async def payload(self, size: int) -> bytearray:
        """The next `size` bytes. EOFError when the other end is gone before."""
        data = bytearray(size)
        begun = min(size, len(self._ahead))
        data[:begun] = self._ahead[:begun]
        del self._ahead[:begun]
        view = memoryview(data)[begun:]
        while view:
            try:
                count = self._connection.recv_into(view)
            except BlockingIOError:
                await self._readable()
                continue
            if count == 0:
                raise EOFError("the other end closed the connection")
            view = view[count:]
        return data

    async def send(self, data: bytes | memoryview) -> None:
        """All of `data`. OSError when the other end is gone."""
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await self._loop.sock_sendall(self._connection, memoryview(data)[sent:])

    def close(self) -> None:
        """Watch no longer."""
        if self.is_watched:
            self.is_watched = False
            self._loop.remove_reader(self._connection)

    async def _readable(self) -> None:
        if not self.is_watched:
            self.is_watched = True
            self._loop.add_reader(self._connection, self._wake)
        self._waiting = self._loop.create_future()
        await self._waiting

    def _wake(self) -> None:
        if self._waiting is None or self._waiting.done():
            self.close()
        else:
            self._waiting.set_result(None)
