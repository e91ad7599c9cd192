"""A bounded number of large bodies at a time: the others wait, and are told to come again."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import IO
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from gateway.refusals import Busy, Unprocessable

LARGE_BYTES = 256 << 10
"""A body of more is large. So is one whose texts inflate to more than a piece."""

WAIT_SECONDS = 300.0
"""For a place; then the client is told to come again. Half of what post_api waits for an answer."""

PATIENCE_SECONDS = 60.0
"""For which a body may fall behind LEAST_RATE; then its client counts as gone."""

LEAST_RATE = 64 << 10
"""Bytes a second that a body brings at least, while there is somebody who takes them."""

_ARRIVING_FOR_EACH = 8
"""So many arrive, on disk, for each one that is worked on."""


class LargeBodies:
    """Who has room to be received, and who to be worked on."""

    def __init__(self, places: int) -> None:
        """places: bodies that are in memory at a time."""
        arriving = places * _ARRIVING_FOR_EACH
        self._arriving = asyncio.Semaphore(arriving)
        self._most_of_one = arriving // 2
        # Kept by those who use it.
        self._arriving_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._places = asyncio.Semaphore(places)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Have a place in memory. Raises Busy."""
        async with _taken(self._places):
            yield

    @asynccontextmanager
    async def received(self, request: Request, username: str) -> AsyncIterator[bytes | IO[bytes]]:
        """The body of a request; a large one as a file, so that no slow client has a place in
        memory while it sends. One user's take half of the room at most.

        Raises Busy, and Unprocessable when the body breaks off or comes too slowly.
        """
        async with AsyncExitStack() as held:
            content = bytearray()
            spool: IO[bytes] | None = None
            async for piece in _pieces(request):
                content += piece
                if len(content) <= LARGE_BYTES:
                    continue
                if spool is None:
                    await held.enter_async_context(_taken(self._room_of(username)))
                    await held.enter_async_context(_taken(self._arriving))
                    file = tempfile.TemporaryFile()  # noqa: SIM115 - `held` closes it
                    spool = held.enter_context(file)
                await _write(spool, content)
                content = bytearray()
            if spool is None:
                yield bytes(content)
            else:
                await _write(spool, content)
                yield spool

    def _room_of(self, username: str) -> asyncio.Semaphore:
        return self._arriving_of.setdefault(username, asyncio.Semaphore(self._most_of_one))


@asynccontextmanager
async def _taken(places: asyncio.Semaphore) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await places.acquire()
    except TimeoutError:
        raise Busy("too many large bodies are being read at the moment; try again") from None
    try:
        yield
    finally:
        places.release()


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    stream = request.stream()
    now = asyncio.get_running_loop().time
    patience = PATIENCE_SECONDS
    while True:
        since = now()
        try:
            async with asyncio.timeout(patience):
                piece = await anext(stream, None)
        except TimeoutError:
            raise Unprocessable(
                "the body ends before its end: nothing came any more, or less than "
                f"{LEAST_RATE >> 10} KiB a second"
            ) from None
        except ClientDisconnect:
            raise Unprocessable("the body ends before its end") from None
        if piece is None:
            return
        patience = min(PATIENCE_SECONDS, patience - (now() - since) + len(piece) / LEAST_RATE)
        yield piece


async def _write(spool: IO[bytes], content: bytearray) -> None:
    try:
        await run_in_threadpool(spool.write, content)
    except OSError as error:
        raise Busy(f"there is no room for the body: {error.strerror}; try again") from error
