"""A JSON list that is sent as it is read, and that knows whether all of it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

UNACKNOWLEDGED = "datarun.unacknowledged"
"""Key of the scope: a function that says how many bytes the client's side has not taken yet."""


class StreamedList(Response):
    """A bare list of documents.

    The first piece is read when this is made, so that what is wrong from the beginning still gets
    a status of its own; what goes wrong later breaks the connection off, and no client can take
    half a list for a whole one.
    """

    media_type = "application/json"

    def __init__(
        self,
        pieces: Iterable[Sequence[BaseModel]],
        *,
        delivered: Callable[[], None] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """delivered: called when the last byte was sent and the client was still there; never
        called otherwise."""
        self._texts = _texts(pieces)
        self._first = next(self._texts)
        self._delivered = delivered
        self.status_code = 200
        self.background = None
        self.body = b""
        self.init_headers(headers)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            text: bytes | None = self._first
            while text is not None and not gone.done():
                await send({"type": "http.response.body", "body": text, "more_body": True})
                text = await run_in_threadpool(next, self._texts, None)
            # The server waits here until its buffer is empty (`gateway.main.EmptyBuffer`), or the
            # connection lost, of which `gone` hears a turn of the loop later.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await asyncio.sleep(0)
            # And what the kernel has taken may never reach a client that dies without reading it.
            unacknowledged = scope.get(UNACKNOWLEDGED, int)
            while unacknowledged() and not gone.done():  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.01)
            if gone.done():
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
        if self._delivered is not None:
            await run_in_threadpool(self._delivered)


def _texts(pieces: Iterable[Sequence[BaseModel]]) -> Iterator[bytes]:
    opening = b"["
    for piece in pieces:
        if piece:
            yield opening + b",".join(document.model_dump_json().encode() for document in piece)
            opening = b","
    yield b"[]" if opening == b"[" else b"]"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
