"""The collector as a process: nothing is lost and nothing is stored twice, whatever dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sql

from broker.control import ControlStream
from broker.link import Link
from schemas.control import RunCancelled
from schemas.events import Measurements, WorkerHeartbeat
from schemas.frozen import Message
from schemas.messages import CancelMessage
from schemas.permissions import BrokerUser
from schemas.requests import Acknowledged, StatusReply, StatusRequest
from schemas.results import FoldResult
from schemas.states import FoldState
from schemas.topology import (
    COLLECTOR_QUEUE,
    DEAD_LETTERS_QUEUE,
    EVENTS,
    KEY_HEARTBEAT,
    RESULTS,
    WORK,
)
from schemas.wire import Envelope, pack, unpack
from storage import outbox
from tests.support import messages as m
from tests.support.deadline import wait_until
from tests.support.played import Players
from tests.support.postgres import PostgresServer
from tests.support.stack import Stack


@pytest.fixture(params=["sqlite", "postgresql"])
def either_stack(request: pytest.FixtureRequest) -> Stack:
    """A stack on each kind of database in turn, with its topology declared."""
    name = "stack" if request.param == "sqlite" else "postgres_stack"
    stack: Stack = request.getfixturevalue(name)
    stack.declare_topology()
    return stack


@pytest.fixture
def players(either_stack: Stack) -> Iterator[Players]:
    """Clients and workers of this stack."""
    with Players(either_stack.logins) as players:
        yield players


def test_verdict_and_what_was_cancelled_are_stored_before_their_messages_are_gone(
    either_stack: Stack, players: Players
) -> None:
    # Given a collector and somebody who listens to results
    collector = either_stack.start_collector()
    with players.producer.subscribe(RESULTS, ["#"], deadline=10) as results:
        # When folds are published and end
        players.publish(*folds(range(20)))
        players.publish(*ends(range(20)))

        # Then each has one result, and the queue is empty
        seen = [unpack(results.next(30)) for _ in range(20)]
    assert sorted(result.submission_fold_id for result in seen) == list(range(20))
    assert states(players) == {FoldState.ERROR: 20}
    wait_until(lambda: depth(players, COLLECTOR_QUEUE) == 0, what="an empty queue")

    # Given folds on their way, of which some are cancelled
    players.publish(*folds(range(30, 33)))
    cancel = CancelMessage(submission_fold_ids=(30, 32))
    reply = players.producer.request(cancel, deadline=10, routing_key="cancel")

    # Then it is committed when the reply comes, and the workers' stream says so
    assert reply == Acknowledged(count=2)
    assert states(players) == {FoldState.ERROR: 20, FoldState.CANCELLED: 2, FoldState.TODO: 1}
    wait_until(
        lambda: either_stack.rows("SELECT count(*) FROM outbox")[0][0] == 0, what="publishing"
    )
    said = asyncio.run(control_messages(either_stack.logins.of(BrokerUser.WORKER)))
    assert [(type(stop), stop.submission_fold_id) for stop in said] == [
        (RunCancelled, 30),
        (RunCancelled, 32),
    ]

    # And a collector that is asked to stop leaves nothing behind
    assert collector.stop() == 0
    assert either_stack.rows("SELECT count(*) FROM outbox")[0][0] == 0


def test_collector_killed_at_any_moment_loses_nothing(
    either_stack: Stack, players: Players
) -> None:
    # Given a subscriber, and more folds than one collector gets to
    count = 400
    with players.producer.subscribe(RESULTS, ["#"], deadline=10) as results:
        players.publish(*folds(range(count)))
        players.publish(*ends(range(count)))

        # When collectors are killed without warning while they store and publish
        for stored in (1, count // 3, 2 * count // 3):
            collector = either_stack.start("collector")
            wait_until(lambda stored=stored: ended(either_stack) >= stored, every=0.005)
            collector.kill()
        either_stack.start("collector")

        # Then every fold has one verdict, and for each a result is published at least once
        missing = set(range(count))
        while missing:
            result = unpack(results.next(30))
            assert isinstance(result, FoldResult)
            missing.discard(result.submission_fold_id)
    assert states(players) == {FoldState.ERROR: count}
    assert either_stack.rows("SELECT count(*) FROM runs")[0][0] == count


def test_what_a_dead_collector_committed_is_published_by_the_next(
    either_stack: Stack, players: Players
) -> None:
    # Given a verdict that was committed by a collector that died before it could publish it
    either_stack.start_collector().stop()
    engine = sql.create_engine(either_stack.database_url)
    left = fold_result()
    with engine.begin() as connection:
        outbox.write(connection, [outbox.row(RESULTS, left, "fold.iris.11", datetime.now(UTC))])
    engine.dispose()

    # When the next one starts
    with players.producer.subscribe(RESULTS, ["#"], deadline=10) as results:
        either_stack.start("collector")

        # Then it is published
        assert unpack(results.next(30)) == left


def test_second_collector_takes_over_when_the_first_dies(
    either_stack: Stack, players: Players
) -> None:
    # Given two collectors, of which one is at work
    first = either_stack.start_collector()
    either_stack.start_collector()
    players.publish(*folds(range(3)))
    assert states(players) == {FoldState.TODO: 3}

    # When that one is killed
    first.kill()
    players.publish(*ends(range(3)))

    # Then the other one goes on
    assert states(players) == {FoldState.ERROR: 3}


def test_bad_row_is_put_aside_and_the_others_of_its_batch_are_stored(
    either_stack: Stack, players: Players
) -> None:
    # Given a database that refuses one submission
    either_stack.start_collector().stop()
    refuse_submission(either_stack, 66)
    players.publish(*folds(range(5), submission_id=1))
    players.publish(*folds([66], submission_id=66))
    players.publish(*folds(range(10, 15), submission_id=1))

    # When a collector takes them all in one batch
    either_stack.start_collector()

    # Then only the refused one is among the dead letters, with the reason
    assert states(players) == {FoldState.TODO: 10}
    wait_until(lambda: depth(players, DEAD_LETTERS_QUEUE) == 1, what="the dead letter")
    wait_until(lambda: depth(players, COLLECTOR_QUEUE) == 0, what="an empty queue")
    audit = either_stack.rows("SELECT reason FROM ignored_messages WHERE kind LIKE 'refused%'")
    assert all("not this one" in reason for (reason,) in audit)


def test_malformed_messages_are_put_aside_once_and_the_collector_goes_on(
    either_stack: Stack, players: Players
) -> None:
    # Given a collector, and every kind of rubbish
    either_stack.start_collector()
    rubbish = [
        (WORK, Envelope(b"not json", "acknowledge")),
        (WORK, Envelope(b"{}", "no-such-key")),
        (EVENTS, Envelope(b'{"run_id": 3}', "fold.1", type="datarun.fold-tested.v1")),
        (EVENTS, Envelope(b"{}", "fold.1", type="datarun.fold-tested.v7")),
        (WORK, pack(m.started("r1"), "folds")),
    ]

    # When it is published, and a fold after it
    players.publish(*rubbish)
    players.publish(*folds([1]))

    # Then each is among the dead letters once, and the fold is stored
    assert states(players) == {FoldState.TODO: 1}
    wait_until(lambda: depth(players, DEAD_LETTERS_QUEUE) == len(rubbish), what="dead letters")
    wait_until(lambda: depth(players, COLLECTOR_QUEUE) == 0, what="an empty queue")
    assert depth(players, DEAD_LETTERS_QUEUE) == len(rubbish)

    # And a fold of a pool that nobody declared fails
    players.publish((WORK, pack(m.fold_message(2, pool="gpu"), "folds.gpu")))
    assert states(players) == {FoldState.ERROR: 1, FoldState.TODO: 1}


def test_database_down_holds_everything_until_it_is_back(
    postgres_stack: Stack, postgres: PostgresServer
) -> None:
    # Given a collector at work on PostgreSQL
    stack = postgres_stack
    stack.declare_topology()
    collector = stack.start_collector()
    with Players(stack.logins) as players:
        players.publish(*folds(range(10)))
        assert states(players) == {FoldState.TODO: 10}

        # When the database goes away while results come in
        postgres.stop()
        try:
            players.publish(*ends(range(10)))
            collector.wait_for("database_away")
            assert collector.process.poll() is None
        finally:
            postgres.start()

        # Then nothing is lost when it is back
        assert states(players) == {FoldState.ERROR: 10}
    assert collector.stop() == 0


def test_collector_stops_while_the_database_is_away(
    postgres_stack: Stack, postgres: PostgresServer
) -> None:
    # Given a collector that holds a message for a database that is away
    stack = postgres_stack
    stack.declare_topology()
    collector = stack.start_collector()
    with Players(stack.logins) as players:
        postgres.stop()
        try:
            players.publish(*folds([1]))
            collector.wait_for("database_away")

            # When it is asked to stop
            code = collector.stop()
        finally:
            postgres.start()

        # Then it does, and its successor stores the message
        assert code == 0
        stack.start_collector()
        assert states(players) == {FoldState.TODO: 1}


def folds(ids: range | list[int], submission_id: int = 1) -> Iterator[tuple[str, Envelope]]:
    for fold_id in ids:
        message = m.fold_message(fold_id, submission_id=submission_id)
        yield WORK, pack(message, "folds.default", message_id=f"r{fold_id}")


def ends(ids: range) -> Iterator[tuple[str, Envelope]]:
    for fold_id in ids:
        reported: tuple[Message, ...] = (
            m.started(f"r{fold_id}", fold_id),
            m.trained(f"r{fold_id}", fold_id),
            m.failure(f"r{fold_id}", fold_id),
        )
        for event in reported:
            yield EVENTS, pack(event, f"fold.{fold_id}")


def states(players: Players) -> dict[FoldState, int]:
    """Counts by state, once everything published so far is stored."""
    reply = players.producer.request(StatusRequest(), deadline=60)
    assert isinstance(reply, StatusReply)
    return reply.folds


def ended(stack: Stack) -> int:
    try:
        return int(stack.rows("SELECT count(*) FROM runs WHERE stored_at IS NOT NULL")[0][0])
    except sql.exc.DBAPIError:
        return 0  # the tables are not made yet


async def control_messages(url: str) -> list[Any]:
    """Everything in the control stream."""
    said: list[Any] = []
    async with Link(url, name="reader") as link:
        stream = ControlStream(link)
        await stream.catch_up(said.append, 20)
        await stream.close()
    return said


def depth(players: Players, queue: str) -> int:
    found = players.producer.queue_depth(queue, deadline=10)
    assert found is not None
    return found.messages


def fold_result() -> FoldResult:
    return FoldResult(
        run_id="r11",
        generation=1,
        submission_fold_id=11,
        submission_id=1,
        dataset="iris",
        version=None,
        state=FoldState.TESTED,
        verdict=None,
        valid_scores={},
        test_scores={},
        measurements=Measurements(),
        stored_at=m.START,
    )


def refuse_submission(stack: Stack, submission_id: int) -> None:
    """Have the database refuse every run of a submission, as a constraint would."""
    engine = sql.create_engine(stack.database_url)
    if engine.dialect.name == "sqlite":
        statements = [
            "CREATE TRIGGER refuse BEFORE INSERT ON runs "
            f"WHEN NEW.submission_id = {submission_id} "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        ]
    else:
        statements = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE check_violation USING MESSAGE = 'not this one'; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON runs FOR EACH ROW "
            f"WHEN (NEW.submission_id = {submission_id}) EXECUTE FUNCTION refuse()",
        ]
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sql.text(statement))
    engine.dispose()


@pytest.mark.slow
def test_a_heartbeat_that_no_table_holds_ends_no_collector(
    either_stack: Stack, players: Players
) -> None:
    # Given a heartbeat of a worker whose name is longer than a queue's, and one that is in order
    collector = either_stack.start_collector()
    for name in ("w" * 300, "fine"):
        beat = {"worker": name, "role": "folds", "pool": "default", "host": "here", "pid": 1}
        body = json.dumps({**beat, "slots": 1, "at": "2026-11-21T12:00:00Z"}).encode()
        envelope = Envelope(body=body, routing_key=KEY_HEARTBEAT, type=WorkerHeartbeat.TYPE)
        players.publish((EVENTS, envelope))

    # Then the second one is written
    wait_until(lambda: either_stack.rows("SELECT worker FROM workers"), what="a written heartbeat")
    assert either_stack.rows("SELECT worker FROM workers") == [("fine",)]
    assert collector.process.poll() is None
