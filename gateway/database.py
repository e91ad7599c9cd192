"""The database as the gateway's threads use it: many readers, one writer at a time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from schemas.errors import DatabaseAway
from storage.engine import snapshot, transaction

PATIENCE = 3.0
"""Seconds for which a write that met another one is tried again; then the client is told to."""

P = ParamSpec("P")
Result = TypeVar("Result")


class Database:
    """Runs functions of (connection, ...) in a transaction each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # SQLite's own waiting for its lock is not fair: some of many threads would starve.
        self._writing = threading.Lock()

    def read(
        self,
        function: Callable[Concatenate[Connection, P], Result],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        """Call with a snapshot. Raises DatabaseAway."""
        with snapshot(self._engine) as connection:
            return function(connection, *args, **kwargs)

    def write(
        self,
        function: Callable[Concatenate[Connection, P], Result],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        """Call in a transaction, which is committed when it returns; whatever it raises undoes it.

        Called again when the collector has changed the same rows meanwhile (PostgreSQL refuses the
        later writer). Raises DatabaseAway.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._writing, transaction(self._engine) as connection:
                    return function(connection, *args, **kwargs)
            except DatabaseAway:
                if time.monotonic() > deadline:
                    raise
            time.sleep(random.uniform(0.01, 0.1))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
