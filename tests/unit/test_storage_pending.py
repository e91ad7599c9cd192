"""What a collector publishes from memory, and what it reads from the outbox."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.wire import Envelope
from storage.apply import Applied
from storage.outbox import Outgoing
from storage.pending import MOST, Pending


def rows(ids: range) -> list[Outgoing]:
    envelope = Envelope(body=b"{}", routing_key="fold.iris.1")
    return [Outgoing(number, "datarun.results", envelope, datetime.now(UTC)) for number in ids]


def test_what_is_on_its_way_is_not_read_and_what_is_published_is_removed_once() -> None:
    pending = Pending()

    # Given two messages that were just committed, of which RabbitMQ takes one
    assert len(pending.committed(Applied(outbox=rows(range(1, 3)))).outbox) == 2
    assert pending.excluded() == {1, 2}
    pending.settled([1, 2], published=[1])

    # Then that one is to be removed, and the other one may be read again
    assert pending.removable() == [1]
    assert pending.excluded() == {1}
    pending.removed([1])
    assert not pending.excluded()


def test_nothing_overtakes_what_was_left_in_the_outbox() -> None:
    # Given so many messages on their way that the next ones are left in the outbox
    pending = Pending()
    pending.committed(Applied(outbox=rows(range(MOST))))
    assert not pending.committed(Applied(outbox=rows(range(MOST, MOST + 1)))).outbox
    pending.settled(range(MOST), published=range(MOST))

    # Then later ones are left, too, until the outbox was read to its end
    assert not pending.committed(Applied(outbox=rows(range(MOST + 1, MOST + 2)))).outbox
    assert pending.is_behind
    pending.found(rows(range(MOST, MOST + 2)), are_all=True)
    assert pending.committed(Applied(outbox=rows(range(MOST + 2, MOST + 3)))).outbox
