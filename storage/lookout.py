"""One look at everything that the gateway, or another collector, may have written."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, exists, select
from sqlalchemy import bindparam as parameter

from storage import outbox
from storage.database import Database
from storage.engine import snapshot, transaction
from storage.models import HeldDataset, OutboxRow
from storage.pending import Pending
from storage.waiting_folds import ended

LOOK_SECONDS = 0.2

MESSAGES_TURN = timedelta(seconds=2)
"""How old a message must be before a collector that is not at work publishes it: its writer does
so at once, unless he has died."""

OTHERS_TURN = timedelta(seconds=10)
"""How old files to upload, or a data set that is held, must be before such a one looks after it."""


@dataclass(frozen=True)
class View:
    """Who looks."""

    is_ours: bool
    """Whether this collector is the one at work; else it sees only what was left over."""

    stuck: frozenset[int]
    """Messages that RabbitMQ has returned, which are not to be tried now."""


@dataclass(frozen=True)
class Seen:
    """What there is to do."""

    outbox: bool
    """A message to publish that nobody publishes."""

    uploads: bool
    """Files of a data set to upload."""

    waiting_folds: bool
    """Folds whose split has ended."""

    held_datasets: bool
    """Data sets that wait for their labels."""


# One statement, made once: most looks find nothing, and what they cost is paid for ever.
_LOOK = select(
    exists()
    .where(
        OutboxRow.raw_data_id.is_(None),
        OutboxRow.created_at < parameter("messages_before"),
        OutboxRow.id.not_in(parameter("excluded", expanding=True)),
    )
    .label("outbox"),
    exists()
    .where(OutboxRow.raw_data_id.is_not(None), OutboxRow.created_at < parameter("others_before"))
    .label("uploads"),
    ended().exists().label("waiting_folds"),
    exists().where(HeldDataset.received_at < parameter("others_before")).label("held_datasets"),
)


class Lookout:
    """Looks until cancelled; removes what is published meanwhile, where no batch has done so."""

    def __init__(
        self,
        database: Database,
        pending: Pending,
        view: Callable[[], View],
        tell: Callable[[Seen], None],
    ) -> None:
        self._database = database
        self._pending = pending
        self._view = view
        self._tell = tell

    async def run(self) -> None:
        """Raises Stopping."""
        while True:
            await self._database.pause(LOOK_SECONDS)
            self._tell(await self._database.insist(self._look, self._view()))

    def _look(self, view: View) -> Seen:
        removable = self._pending.removable()
        if not removable:
            with snapshot(self._database.engine) as connection:
                return _seen(connection, view.is_ours, self._pending.excluded() | view.stuck)
        with transaction(self._database.engine) as connection:
            outbox.remove(connection, removable)
            seen = _seen(connection, view.is_ours, self._pending.excluded() | view.stuck)
        self._pending.removed(removable)
        return seen


def _seen(connection: Connection, ours: bool, excluded: Collection[int]) -> Seen:
    now = datetime.now(UTC)
    ever = now + timedelta(days=1)
    row = connection.execute(
        _LOOK,
        {
            "messages_before": ever if ours else now - MESSAGES_TURN,
            "others_before": ever if ours else now - OTHERS_TURN,
            "excluded": list(excluded),
        },
    ).one()
    return Seen(*map(bool, row))
