"""Two collectors, after the one at work was taken for dead, and lives."""

from __future__ import annotations

from collections import Counter

from schemas.permissions import BrokerUser
from schemas.results import FoldResult
from schemas.states import FoldState
from schemas.topology import RESULTS
from schemas.wire import unpack
from tests.integration.test_collector_delivery import either_stack as either_stack
from tests.integration.test_collector_delivery import ends, folds, states
from tests.integration.test_collector_delivery import players as players
from tests.support.played import Players
from tests.support.stack import Stack

AFTERWARDS = range(10, 40)


def test_a_collector_that_was_taken_over_from_publishes_nothing_a_second_time(
    either_stack: Stack, players: Players
) -> None:
    # Given two collectors, of which the one at work is stopped until the other one has its place
    url = f"{either_stack.logins.of(BrokerUser.COLLECTOR)}?heartbeat=1"
    former = either_stack.start_collector(broker=url)
    either_stack.start_collector(broker=url)
    players.publish(*folds(range(10)))
    assert states(players) == {FoldState.TODO: 10}
    former.pause()
    players.publish(*ends(range(10)))
    assert states(players) == {FoldState.ERROR: 10}

    # When the former one goes on, and folds end one after the other
    former.go_on()
    former.wait_for("reconnected")
    players.publish(*folds(AFTERWARDS))
    with players.producer.subscribe(RESULTS, ["#"], deadline=10) as results:
        told: Counter[int] = Counter()
        for fold_id in AFTERWARDS:
            players.publish(*ends(range(fold_id, fold_id + 1)))
            while not told[fold_id]:
                result = unpack(results.next(30))
                assert isinstance(result, FoldResult)
                told[result.submission_fold_id] += 1

    # Then each result is published once
    assert {told[fold_id] for fold_id in AFTERWARDS} == {1}
