"""Whose password is checked next: names take turns, so that no name's flood holds up another's."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.refusals import Busy, WrongLogin

MOST_WAITING = 256
"""Logins of one name; it takes some ten seconds to check so many."""

MOST_MADE_UP = 1024
"""Logins of all names together that are no user's."""

_Queues = OrderedDict[str, deque[asyncio.Future[None]]]


class LoginTurns:
    """One login at a time: each takes 64 MiB, and guessing must not take all cores.

    Those of one name are in the order in which they came; the names go round. Names that are no
    user's have one turn in the round between them, however many somebody makes up, and go round
    among themselves. What a name is answered does not tell whether it is a user's.
    """

    def __init__(self) -> None:
        self._round: OrderedDict[str | None, _Queues] = OrderedDict()
        """A user, or None for all names that are no user's -> name -> those who wait."""

        self._is_taken = False

    @asynccontextmanager
    async def of(self, username: str, *, is_user: bool) -> AsyncIterator[None]:
        """Have the turn. Raises Busy, and WrongLogin without a turn when too many names that are no
        user's wait."""
        if self._is_taken:
            await self._wait(username, is_user)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, username: str, is_user: bool) -> None:
        queues = self._round.get(username if is_user else None, OrderedDict())
        queue = queues.get(username, deque())
        if len(queue) >= MOST_WAITING:
            raise Busy("too many passwords of this name are being checked at the moment; try again")
        if not is_user and sum(map(len, queues.values())) >= MOST_MADE_UP:
            # Busy would tell that the name is no user's: a user's own queue is not full of others.
            raise WrongLogin
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        queues[username] = queue
        self._round[username if is_user else None] = queues
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._round:
            whose, queues = self._round.popitem(last=False)
            username, queue = queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                queues[username] = queue  # Behind the others, as is the next line.
            if queues:
                self._round[whose] = queues
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._is_taken = False
