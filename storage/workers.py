"""Which workers are alive: their heartbeats, in memory, and now and then in the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete

from schemas.events import WorkerHeartbeat
from storage.models import Worker
from storage.upsert import insert_or_update

FORGOTTEN_AFTER = timedelta(days=7)
WRITE_SECONDS = 10.0
"""How often heartbeats are written."""


@dataclass(frozen=True)
class _Heard:
    heartbeat: WorkerHeartbeat
    at: float
    received_at: datetime


class Workers:
    """The last heartbeat of each worker that this collector has heard.

    silence: seconds without a heartbeat after which a worker counts as dead. A collector that has
    not listened for so long itself calls nobody dead.
    """

    def __init__(self, silence: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence = silence
        self._clock = clock
        self._listening_since: float | None = None
        self._heard: dict[str, _Heard] = {}
        self._unwritten: set[str] = set()

    def listen(self) -> None:
        """Whatever was said before this moment may have been missed."""
        self._listening_since = self._clock()

    def hear(self, heartbeat: WorkerHeartbeat) -> None:
        """A heartbeat has come."""
        self._heard[heartbeat.worker] = _Heard(heartbeat, self._clock(), datetime.now(UTC))
        self._unwritten.add(heartbeat.worker)

    def is_alive(self, worker: str) -> bool:
        """Whether it speaks still; True as long as that cannot be known."""
        heard = self._heard.get(worker)
        if heard is not None and heard.heartbeat.stopped:
            return False
        if self._listening_since is None or self._is_recent(self._listening_since):
            return True
        return heard is not None and self._is_recent(heard.at)

    def alive(self) -> tuple[WorkerHeartbeat, ...]:
        """The last heartbeat of each worker that speaks, by name."""
        return tuple(
            heard.heartbeat
            for _, heard in sorted(self._heard.items())
            if self._is_recent(heard.at) and not heard.heartbeat.stopped
        )

    def take_unwritten(self) -> list[dict[str, Any]]:
        """Rows of the heartbeats that came since the last call; forgets who is long silent."""
        # Copied before they are looked at: heartbeats arrive in another thread.
        unwritten, self._unwritten = self._unwritten, set()
        rows = [
            {
                "worker": name,
                "heartbeat": self._heard[name].heartbeat.model_dump_json(),
                "received_at": self._heard[name].received_at,
            }
            for name in unwritten
        ]
        oldest = datetime.now(UTC) - FORGOTTEN_AFTER
        self._heard = {
            name: heard for name, heard in self._heard.items() if heard.received_at > oldest
        }
        return rows

    def _is_recent(self, at: float) -> bool:
        return self._clock() - at < self._silence


def write_heartbeats(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write them, and delete who is long silent."""
    insert_or_update(connection, Worker, rows, update=("heartbeat", "received_at"))
    oldest = datetime.now(UTC) - FORGOTTEN_AFTER
    connection.execute(delete(Worker).where(Worker.received_at < oldest))
