"""The body of a request, as the model that an endpoint asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import IO, Any

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from gateway.bodies import BodyModel
from gateway.inflating import swells
from gateway.large_bodies import LargeBodies
from gateway.parsing import parsed


def body_of(model: type[BodyModel], *, optional: bool = False) -> Any:
    """What to annotate an endpoint's parameter with. Whatever content type is said, the body is
    JSON: `curl -d` says another one.

    A large body has a place in memory until the endpoint returns, not until a slow client has its
    answer. Answered with what Busy and Unprocessable say.
    """
    return Depends(_reader(model, optional), scope="function")


def _reader(
    model: type[BodyModel], optional: bool
) -> Callable[[Request], AsyncIterator[BodyModel]]:
    async def read(request: Request) -> AsyncIterator[BodyModel]:
        large: LargeBodies = request.app.state.large_bodies
        async with AsyncExitStack() as held:
            async with large.received(request) as received:
                is_large = not isinstance(received, bytes)
                if is_large:
                    await held.enter_async_context(large.place())
                # In a thread: it may have hundreds of megabytes.
                body = await run_in_threadpool(_read, model, received, optional)
            if not is_large and await run_in_threadpool(swells, body.texts):
                await held.enter_async_context(large.place())
            yield body

    return read


def _read(model: type[BodyModel], received: bytes | IO[bytes], optional: bool) -> BodyModel:
    if isinstance(received, bytes):
        raw = received
    else:
        received.seek(0)
        raw = received.read()
    if optional and not raw.strip():
        raw = b"{}"
    return parsed(model, raw)
