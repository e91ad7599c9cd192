"""The database seen from the event loop: one thread, and patience while it is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from sqlalchemy import Engine

from schemas.errors import DatabaseAway
from storage import metrics
from storage.engine import upgrade

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

P = ParamSpec("P")
Result = TypeVar("Result")


class Stopping(Exception):
    """The collector is asked to stop while it waits for the database."""


class Database:
    """Runs blocking functions in one thread of its own, so that writers never wait for locks.

    stopping: once it is set, nobody waits for the database any more.
    """

    def __init__(self, engine: Engine, stopping: asyncio.Event) -> None:
        self.engine = engine
        self._stopping = stopping
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")

    async def call(
        self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Run a function once. Raises DatabaseAway when the database is away."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    async def insist(
        self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Run a function again and again until the database is there.

        Raises Stopping when that is not to be waited for.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                result = await self.call(function, *args, **kwargs)
            except DatabaseAway as error:
                metrics.DATABASE_FAILURES.inc()
                logger.warning(str(error), extra={"action": "database_away"})
            else:
                if pause > FIRST_PAUSE:
                    logger.info("the database is back", extra={"action": "database_back"})
                return result
            await self.pause(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def pause(self, seconds: float) -> None:
        """Wait. Raises Stopping as soon as the collector is asked to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise Stopping

    def close(self) -> None:
        """Wait for the function that runs, and close the connections."""
        self._thread.shutdown()
        self.engine.dispose()


async def upgraded(engine: Engine, stopped: asyncio.Event) -> bool:
    """Upgrade the tables, waiting for the database; False when asked to stop meanwhile."""
    pause = FIRST_PAUSE
    while not stopped.is_set():
        try:
            await asyncio.to_thread(upgrade, engine)
            return True
        except DatabaseAway as error:
            logger.warning(str(error), extra={"action": "database_away"})
        try:
            async with asyncio.timeout(pause):
                await stopped.wait()
        except TimeoutError:
            pause = min(pause * 2, LONGEST_PAUSE)
    return False
