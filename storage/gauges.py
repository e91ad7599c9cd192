"""What the collector looks up for its metrics now and then, so that a scrape asks nobody."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime

from sqlalchemy import Engine

from schemas.errors import DatabaseAway
from schemas.settings import Settings
from schemas.states import Role
from storage import metrics, outbox
from storage.database import Database
from storage.engine import snapshot
from storage.pending import Pending
from storage.workers import Workers

LOOK_SECONDS = 5.0
LONG_SECONDS = 24 * 3600.0


async def measure(
    database: Database, pending: Pending, workers: Workers, settings: Settings
) -> None:
    """Look until the collector stops; where nobody scrapes, there is nothing to look for."""
    while True:
        if settings.metrics_port is None:
            await database.pause(LONG_SECONDS)
            continue
        alive = Counter(heartbeat.role for heartbeat in workers.alive())
        for role in Role:
            metrics.WORKERS.labels(role.value).set(alive[role])
        try:
            depth, oldest = await database.call(_outbox, database.engine, pending)
        except DatabaseAway:
            metrics.DATABASE_FAILURES.inc()
        else:
            metrics.OUTBOX_MESSAGES.set(depth)
            _set_age(oldest)
        await database.pause(LOOK_SECONDS)


def _outbox(engine: Engine, pending: Pending) -> tuple[int, datetime | None]:
    with snapshot(engine) as connection:
        but = pending.removable()
        return outbox.depth(connection, but), outbox.oldest(connection, but)


def _set_age(oldest: datetime | None) -> None:
    # Computed at each scrape: while the database is away, it goes on growing.
    metrics.OUTBOX_AGE.set_function(
        lambda: max(0.0, time.time() - oldest.timestamp()) if oldest is not None else 0.0
    )
