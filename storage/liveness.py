"""A collector's pulse: it has a connection to RabbitMQ, and its database has just answered."""

from __future__ import annotations

from sqlalchemy import Engine, text

from broker.link import Link
from broker.pulse import Pulse
from schemas.settings import Settings
from storage.database import Database
from storage.engine import snapshot


async def show_life(link: Link, database: Database, settings: Settings) -> None:
    """Beat until `Stopping`. A standby lives, too: that it is given nothing is as it should be."""
    with Pulse(settings.pulse) as pulse:
        while True:
            if link.is_connected and pulse.path is not None:
                await database.insist(_ask, database.engine)
                pulse.beat()
            await database.pause(settings.heartbeat_seconds)


def _ask(engine: Engine) -> None:
    with snapshot(engine) as connection:
        connection.execute(text("SELECT 1"))
