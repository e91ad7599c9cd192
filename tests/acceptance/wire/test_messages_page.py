"""What docs/messages.md shows is published as it stands, and done."""

from __future__ import annotations

import uuid

from schemas.states import FoldState
from schemas.topology import WORK
from tests.support.deadline import wait_until
from tests.support.pages import run_by
from tests.support.wire import Wire

WITHIN = 60


def test_the_messages_of_the_page_are_published_and_done(wire: Wire) -> None:
    # Given a program that publishes what the page shows, with an id of its own
    data, *folds, acknowledge, cancel = run_by(__file__, "docs/messages.md")
    assert len(folds) == 2

    def publish(key: str, body: str) -> None:
        properties = {"delivery_mode": 2, "message_id": str(uuid.uuid4())}
        wire.program.publish(WORK, key, body.encode(), properties)

    # When a data set is published, and both folds of it, plain and packed
    for block in (data, *folds):
        publish(block.marks["key"], block.code)

    # Then they are tested
    results = list(wire.client.follow([17, 18], timeout=WITHIN))
    assert [result.state for result in results] == [FoldState.TESTED] * 2, results

    # And new until they are acknowledged
    publish(acknowledge.marks["key"], acknowledge.code)
    wait_until(
        lambda: [fold.new for fold in wire.client.folds([17, 18])] == [False, False],
        within=WITHIN,
        what="the acknowledgement",
    )

    # And cancelling what has ended changes nothing
    publish(cancel.marks["key"], cancel.code)
    assert [fold.state for fold in wire.client.folds([18])] == [FoldState.TESTED]
