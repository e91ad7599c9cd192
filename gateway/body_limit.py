"""Refuses bodies that are too large before they are in memory."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.refusals import TooLarge

RAW_DATA = frozenset({"/runapp/rawdata", "/runapp/raw_data"})
SUBMISSION_FOLD = "/runapp/submissionfold"

FOLD_BYTES = 16 << 20
"""Of a fold: no message has more, in which it goes on. Its files have at most 8 MiB."""

OTHER_BYTES = 4 << 20
"""Of calls that carry ids."""

DISCARDED_BYTES = 64 << 20
"""A body that is no more than this past its limit is taken to its end and thrown away, since many
clients read no answer before they have sent everything. Of a longer one nothing more is read."""


class BodyLimit:
    """ASGI middleware. By Content-Length at once; a body without one as soon as it is too long."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        """limit: of a data set, and what no other body may pass either."""
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            # A client that waits for "100 Continue" has sent nothing, and shall not begin.
            if b"expect" not in headers and int(declared) <= limit + DISCARDED_BYTES:
                await _discard(receive, int(declared))
            await self._refuse(scope, receive, send)
            return
        taken = 0
        begun = False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _PastTheLimit(message)
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _PastTheLimit as past:
            if begun:
                raise
            if past.goes_on:
                await _discard(receive, DISCARDED_BYTES)
            await self._refuse(scope, receive, send)

    def _limit_of(self, path: str) -> int:
        address = path.rstrip("/")
        if address in RAW_DATA:
            return self._limit
        return min(self._limit, FOLD_BYTES if address == SUBMISSION_FOLD else OTHER_BYTES)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self._limit_of(scope["path"])
        why = " (setting gateway_body_bytes)" if limit == self._limit else ""
        refusal = TooLarge(
            f"the body is larger than the {limit} bytes that this gateway takes at "
            f"{scope['path'][:200]}{why}; send less at a time, or compress the files"
        )
        answer = JSONResponse(refusal.document, status_code=refusal.status, headers=refusal.headers)
        await answer(scope, receive, send)


class _PastTheLimit(Exception):
    """The body goes past the limit."""

    def __init__(self, message: Message) -> None:
        super().__init__()
        self.goes_on = bool(message.get("more_body", False))


async def _discard(receive: Receive, most: int) -> None:
    """Take what is left of a body, up to `most` bytes."""
    while most > 0:
        message = await receive()
        most -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
