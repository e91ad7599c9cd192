"""What a collector knows of the outbox without reading it: rows on their way, and to be removed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from storage.apply import Applied
from storage.outbox import Outgoing

MOST = 500
"""Messages on their way at a time; what is written beyond them is read from the outbox later."""


class Pending:
    """Rows that nobody has to look for: who has written them publishes them from memory, and they
    are removed by a transaction that comes anyway.

    Who dies in between leaves them in the outbox, for the next collector to publish. The database's
    thread calls `removable`, `excluded`, `committed`, `removed` and `found`, the event loop the
    others; each step is a single one on a set of integers, so that neither sees half of one.
    """

    def __init__(self) -> None:
        self._on_their_way: set[int] = set()
        self._published: set[int] = set()
        self._behind = False

    def removable(self) -> list[int]:
        """Rows that are published, to be removed by the next transaction."""
        return list(self._published)

    def excluded(self) -> set[int]:
        """Rows that nobody is to publish (again)."""
        return self._on_their_way.copy() | self._published.copy()

    def committed(self, applied: Applied) -> Applied:
        """What has come of a committed transaction, with what is to be published from memory.

        That is all that it has written, unless something older waits in the outbox, and goes first.
        """
        self.removed(applied.removed)
        written = applied.outbox
        if self._behind or len(self._on_their_way) + len(written) > MOST:
            self._behind |= bool(written)
            applied.outbox = []
        self._on_their_way.update([row.id for row in applied.outbox])
        return applied

    def removed(self, ids: Collection[int]) -> None:
        """The outbox does not hold them any more."""
        self._published.difference_update(ids)

    def found(self, rows: Sequence[Outgoing], *, are_all: bool) -> None:
        """These were read from the outbox, and are on their way now."""
        self._on_their_way.update([row.id for row in rows])
        self._behind = not are_all

    @property
    def is_behind(self) -> bool:
        """Whether the outbox holds what nobody has taken along."""
        return self._behind

    def settled(self, ids: Collection[int], published: Collection[int]) -> None:
        """These are on their way no longer: RabbitMQ has those that are published."""
        self._published.update(published)
        self._on_their_way.difference_update(ids)
