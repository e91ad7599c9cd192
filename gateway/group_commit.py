"""One transaction for all who want to write at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from schemas.errors import DatabaseAway

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MOST = 50
"""Items in one transaction."""


@dataclass(eq=False)
class _Waiting(Generic[Item, Outcome]):
    item: Item
    outcomes: list[Outcome | Exception] = field(default_factory=list)


class GroupCommit(Generic[Item, Outcome]):
    """Calls `write` with what has come while it was at work; used by many threads.

    A transaction costs as much as several items in it. Whoever gets the lock writes for all who
    wait, and they find their outcome when they get it.
    """

    def __init__(self, write: Callable[[Sequence[Item]], list[Outcome | Exception]]) -> None:
        """write: the outcome of each item; what it raises itself concerns all of them."""
        self._write = write
        self._queue: list[_Waiting[Item, Outcome]] = []
        self._queueing = threading.Lock()
        self._writing = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many items nobody has begun to write."""
        return len(self._queue)

    def run(self, item: Item) -> Outcome:
        """The outcome, once it is committed. Raises the exception that is its outcome."""
        waiting: _Waiting[Item, Outcome] = _Waiting(item)
        with self._queueing:
            self._queue.append(waiting)
        while not waiting.outcomes:
            with self._writing:
                if not waiting.outcomes:
                    self._write_next()
        outcome = waiting.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _write_next(self) -> None:
        with self._queueing:
            group, self._queue = self._queue[:MOST], self._queue[MOST:]
        try:
            outcomes = self._write([waiting.item for waiting in group])
        except DatabaseAway as error:
            outcomes = [error] * len(group)
        except Exception as error:  # noqa: BLE001 - some item is at fault: each goes alone
            outcomes = [error] if len(group) == 1 else [self._alone(each.item) for each in group]
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.outcomes.append(outcome)

    def _alone(self, item: Item) -> Outcome | Exception:
        try:
            return self._write([item])[0]
        except Exception as error:  # noqa: BLE001 - it is raised to whoever gave the item
            return error
