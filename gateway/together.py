"""One transaction for all who want the same thing of the database at the same moment."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from schemas.errors import DatabaseAway

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MOST = 50
"""Items in one transaction."""


class Together(Generic[Item, Outcome]):
    """Calls `work`, in a thread, with what has come while it was at work; of the event loop.

    A transaction, and a thread's turn, cost as much as several items in them.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Outcome | Exception]]) -> None:
        """work: the outcome of each item; what it raises itself concerns all of them."""
        self._work = work
        self._queue: deque[tuple[Item, asyncio.Future[Outcome]]] = deque()
        self._working: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many items nobody has begun to work on."""
        return len(self._queue)

    async def run(self, item: Item) -> Outcome:
        """The outcome, once its transaction has ended. Raises the exception that is its outcome."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.append((item, outcome))
        if self._working is None:
            self._working = asyncio.create_task(self._work_on())
        return await outcome

    async def _work_on(self) -> None:
        try:
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(MOST, len(self._queue)))]
                outcomes = await run_in_threadpool(self._outcomes, [item for item, _ in group])
                for (_, waiting), outcome in zip(group, outcomes, strict=True):
                    _tell(waiting, outcome)
        finally:
            self._working = None

    def _outcomes(self, items: Sequence[Item]) -> Sequence[Outcome | Exception]:
        try:
            return self._work(items)
        except DatabaseAway as error:
            return [error] * len(items)
        except Exception as error:  # noqa: BLE001 - some item is at fault: each goes alone
            return [error] if len(items) == 1 else self._each_alone(items)

    def _each_alone(self, items: Sequence[Item]) -> Sequence[Outcome | Exception]:
        outcomes: list[Outcome | Exception] = []
        for item in items:
            try:
                outcomes += self._work([item])
            except DatabaseAway as error:
                # Each of the others would wait as long for it.
                return outcomes + [error] * (len(items) - len(outcomes))
            except Exception as error:  # noqa: BLE001 - it is raised to whoever gave the item
                outcomes.append(error)
        return outcomes


def _tell(waiting: asyncio.Future[Outcome], outcome: Outcome | Exception) -> None:
    if waiting.cancelled():
        return
    if isinstance(outcome, Exception):
        waiting.set_exception(outcome)
    else:
        waiting.set_result(outcome)
