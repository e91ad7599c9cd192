"""Whose password is checked next: names take turns, so that no name's flood holds up another's."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.refusals import Busy

MOST_WAITING = 256
"""Logins of one name; it takes some ten seconds to check so many."""


class LoginTurns:
    """One login at a time: each takes 64 MiB, and guessing must not take all cores.

    Those of one name are in the order in which they came; the names go round. Names that are no
    user's count as one, however many somebody makes up.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str | None, deque[asyncio.Future[None]]] = OrderedDict()
        self._is_taken = False

    @asynccontextmanager
    async def of(self, username: str | None) -> AsyncIterator[None]:
        """Have the turn; None: a name that is no user's. Raises Busy."""
        if self._is_taken:
            await self._wait(username)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, username: str | None) -> None:
        queue = self._waiting.setdefault(username, deque())
        if len(queue) >= MOST_WAITING:
            raise Busy("too many passwords of this name are being checked at the moment; try again")
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            username, queue = self._waiting.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._waiting[username] = queue  # Behind the others.
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._is_taken = False
