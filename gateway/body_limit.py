"""Refuses bodies that are too large before they are in memory."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.refusals import TooLarge

DISCARDED_BYTES = 64 << 20
"""So much more of a body is taken and thrown away, since many clients read no answer before they
have sent everything."""


class BodyLimit:
    """ASGI middleware. By Content-Length at once; a body without one as soon as it is too long."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limit:
            # A client that waits for "100 Continue" has sent nothing, and shall not begin.
            if b"expect" not in headers and int(declared) <= self._limit + DISCARDED_BYTES:
                await _discard(receive)
            await self._refuse(scope, receive, send)
            return
        taken = 0
        begun = False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                raise _PastTheLimit
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _PastTheLimit:
            if begun:
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = TooLarge(
            f"the body is larger than the {self._limit} bytes that this gateway takes "
            "(setting gateway_body_bytes); send fewer files, or compress them"
        )
        answer = JSONResponse(refusal.document, status_code=refusal.status, headers=refusal.headers)
        await answer(scope, receive, send)


class _PastTheLimit(Exception):
    """The body goes on past the limit."""


async def _discard(receive: Receive) -> None:
    taken = 0
    while taken <= DISCARDED_BYTES * 8:
        message = await receive()
        taken += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
