"""The body of a request, as the model that an endpoint asks for."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import IO, Any, TypeVar, TypeVarTuple

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from gateway.bodies import BodyModel
from gateway.inflating import swells
from gateway.large_bodies import LargeBodies
from gateway.parsing import parsed
from gateway.service import TheUser
from storage.users import Account

SMALL_BYTES = 8 << 10
"""To read so much, or to write it, takes less than a thread's turn."""

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


async def aside(size: int, function: Callable[[*Given], Result], *args: *Given) -> Result:
    """Call it in a thread, when it is about so many bytes that others would have to wait."""
    if size <= SMALL_BYTES:
        return function(*args)
    return await run_in_threadpool(function, *args)


def body_of(
    model: type[BodyModel],
    *,
    optional: bool = False,
    as_: Callable[[BodyModel], Any] = lambda body: body,
) -> Any:
    """What to annotate an endpoint's parameter with. Whatever content type is said, the body is
    JSON: `curl -d` says another one.

    as_: what the endpoint gets is made of the body by this, where that takes time.
    A large body has a place in memory until the endpoint returns, not until a slow client has its
    answer. Answered with what Busy and Unprocessable say.
    """
    return Depends(_reader(model, optional, as_), scope="function")


def _reader(
    model: type[BodyModel], optional: bool, as_: Callable[[BodyModel], Any]
) -> Callable[[Request, Account], AsyncIterator[Any]]:
    # The user is known before anything of the body is read.
    async def read(request: Request, user: TheUser) -> AsyncIterator[Any]:
        large: LargeBodies = request.app.state.large_bodies
        async with AsyncExitStack() as held:
            async with large.received(request, user.username) as received:
                if not isinstance(received, bytes):
                    await held.enter_async_context(large.place())
                # In a thread, since it may have hundreds of megabytes.
                size = len(received) if isinstance(received, bytes) else sys.maxsize
                body, grows = await aside(size, _read, model, received, optional)
            if grows:
                await held.enter_async_context(large.place())
                size = sys.maxsize
            yield await aside(size, as_, body)

    return read


def _read(
    model: type[BodyModel], received: bytes | IO[bytes], optional: bool
) -> tuple[BodyModel, bool]:
    """The body, and whether its texts inflate to much more than it is."""
    if isinstance(received, bytes):
        raw = received
    else:
        received.seek(0)
        raw = received.read()
    if optional and not raw.strip():
        raw = b"{}"
    body = parsed(model, raw)
    return body, isinstance(received, bytes) and swells(body.texts)
