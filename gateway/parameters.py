"""Query parameters that an address does not know are refused: `?acknowlege=manual` would not do
what was meant, and what it clears cannot be made new again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from fastapi import Request, params

from gateway.closest import closest
from gateway.refusals import Unprocessable


def query_names(endpoint: Callable[..., Any]) -> tuple[str, ...]:
    """The query parameters that an endpoint takes, as its signature says."""
    hints = get_type_hints(endpoint, include_extras=True)
    return tuple(
        name
        for name, hint in hints.items()
        if any(isinstance(mark, params.Query) for mark in getattr(hint, "__metadata__", ()))
    )


def refuse_unknown(known: tuple[str, ...]) -> Callable[[Request], Awaitable[None]]:
    """A dependency. Raises Unprocessable, which names those that are known."""

    async def check(request: Request) -> None:
        for name in request.query_params:
            if name not in known:
                taken = f"it takes {', '.join(known)}" if known else "it takes none"
                raise Unprocessable(
                    f"{request.url.path} has no parameter {name[:80]!r} after the '?'"
                    f"{closest(name, known)}; {taken}"
                )

    return check
