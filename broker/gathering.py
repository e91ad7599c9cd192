"""A wait for deliveries that go together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.feed import Delivery


class Gathering:
    """A wait for company: until `most` deliveries have come, or the time is over.

    They are looked at as they come, in place of waking whoever waits for each of them.
    """

    def __init__(self, most: int, end: float, patience: Callable[[Delivery], float] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = most
        self._patience = patience
        self.end = end
        """On the loop's clock; a delivery with little patience brings it forward."""

        self.over: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_at(end, self.stop)

    def add(self, delivery: Delivery) -> None:
        """One has come."""
        self._left -= 1
        if self._left == 0:
            self.stop()
        elif self._patience is not None:
            end = self._loop.time() + self._patience(delivery)
            if end < self.end:
                self.end = end
                self._timer.cancel()
                self._timer = self._loop.call_at(end, self.stop)

    def stop(self) -> None:
        """Nobody is waited for any more."""
        self._timer.cancel()
        if not self.over.done():
            self.over.set_result(None)
