"""A bounded number of large bodies at a time: the others wait, and are told to come again."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from gateway.refusals import Busy, Unprocessable

LARGE_BYTES = 256 << 10
"""A body of more is large. So is one whose texts inflate to more than a piece."""

WAIT_SECONDS = 300.0
"""For a place; then the client is told to come again. Half of what post_api waits for an answer."""

SILENT_SECONDS = 60.0
"""For the next bytes of a large body; then its client counts as gone."""

_ARRIVING_FOR_EACH = 8
"""So many arrive, on disk, for each one that is worked on."""


class LargeBodies:
    """Who has room to be received, and who to be worked on."""

    def __init__(self, places: int) -> None:
        """places: bodies that are in memory at a time."""
        self._arriving = asyncio.Semaphore(places * _ARRIVING_FOR_EACH)
        self._places = asyncio.Semaphore(places)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Have a place in memory. Raises Busy."""
        async with _taken(self._places):
            yield

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[bytes | IO[bytes]]:
        """The body of a request; a large one as a file, so that no slow client has a place in
        memory while it sends. Raises Busy, and Unprocessable when the body breaks off."""
        async with AsyncExitStack() as held:
            content = bytearray()
            spool: IO[bytes] | None = None
            async for piece in _pieces(request):
                content += piece
                if len(content) <= LARGE_BYTES:
                    continue
                if spool is None:
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
    while True:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                piece = await anext(stream, None)
        except TimeoutError:
            raise Unprocessable(
                f"the body ends before its end: nothing came for {SILENT_SECONDS:.0f} seconds"
            ) from None
        except ClientDisconnect:
            raise Unprocessable("the body ends before its end") from None
        if piece is None:
            return
        yield piece


async def _write(spool: IO[bytes], content: bytearray) -> None:
    try:
        await run_in_threadpool(spool.write, content)
    except OSError as error:
        raise Busy(f"there is no room for the body: {error.strerror}; try again") from error
