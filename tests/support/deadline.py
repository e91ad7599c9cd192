"""Waiting for what a test can observe, never for a hoped-for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def wait_until(
    look: Callable[[], Seen], *, within: float = 30, every: float = 0.05, what: str = ""
) -> Seen:
    """Look until it is truthy, and return what was seen; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            name = what or getattr(look, "__name__", "it")
            raise AssertionError(f"{name} did not come within {within} s; last seen: {seen!r}")
        time.sleep(every)
