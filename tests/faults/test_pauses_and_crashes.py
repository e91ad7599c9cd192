"""A broker that crashes, and services that are stopped for longer than their heartbeats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pika
import pytest

from broker.private_node import PrivateNode
from datarun import Client, HoldOut
from schemas.permissions import BrokerUser
from schemas.states import FoldState
from schemas.topology import COLLECTOR_QUEUE, WORK, folds_queue
from schemas.wire import Envelope
from tests.faults.test_lost_processes import Waiting, publish, stored_verdicts
from tests.faults.test_lost_processes import waiting as waiting
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Logins
from tests.support.stack import Service, Stack
from tests.support.submissions import DUMMY, write_iris

WITHIN = 60


@pytest.fixture
def node(tmp_path: Path) -> Iterator[PrivateNode]:
    """A node that this test may kill."""
    node = PrivateNode(tmp_path / "node")
    node.start()
    yield node
    node.stop(clean=False)


@pytest.fixture
def own_stack(node: PrivateNode, tmp_path: Path) -> Iterator[Stack]:
    """Services on that node."""
    database = f"sqlite:///{tmp_path / 'datarun.sqlite'}"
    made = Stack(Logins.of_node(node.address), database, tmp_path)
    yield made
    made.close()


def publish_iris(client: Client, folder: Path) -> None:
    client.publish_data(
        "iris",
        files=[write_iris(folder)],
        target_column="species",
        workflow_elements="classifier",
        split=HoldOut(0.5),
        timeout=WITHIN,
    )


def pause_outside_transactions(stack: Stack, service: Service) -> None:
    """Stop it where it holds no lock of the database, which nobody could take from it."""

    def paused() -> bool:
        service.pause()
        if stack.can_write():
            return True
        service.go_on()
        return False

    wait_until(paused, what="a moment between two transactions")


@pytest.mark.slow
def test_a_broker_killed_in_training_loses_no_fold_and_runs_none_twice(
    own_stack: Stack, node: PrivateNode, tmp_path: Path, waiting: Waiting
) -> None:
    # Given a fold in training on one of two workers, and others behind it
    own_stack.start_all(slots=1)
    own_stack.start_worker(slots=1)
    with own_stack.client() as client:
        publish_iris(client, tmp_path)
        publish(client, 1, waiting.code)
        waiting.wait_until_training()
        waiting.started.unlink()
        ids = [1, *range(2, 12)]

        # When the broker is killed and comes back while more are published
        for fold_id in ids[1:6]:
            publish(client, fold_id, DUMMY)
        node.kill()
        node.start()
        for fold_id in ids[6:]:
            publish(client, fold_id, DUMMY)
        waiting.go_on()

        # Then each has one verdict, and the one in training was not begun again
        results = {each.submission_fold_id: each for each in client.follow(ids, timeout=WITHIN)}
    assert [results[fold_id].state for fold_id in ids] == [FoldState.TESTED] * len(ids)
    assert all(stored_verdicts(own_stack, fold_id) == ["TESTED"] for fold_id in ids)
    assert not waiting.started.exists()


def test_a_worker_stopped_for_longer_than_its_heartbeats_leaves_one_verdict(
    stack: Stack, tmp_path: Path, waiting: Waiting
) -> None:
    # Given a worker with short AMQP heartbeats that is stopped in the middle of a fold
    stack.declare_topology()
    stack.start_collector()
    stack.start_worker("prepare")
    url = f"{stack.logins.of(BrokerUser.WORKER)}?heartbeat=1"
    stopped = stack.start_worker(slots=1, broker=url)
    with stack.client() as client:
        publish_iris(client, tmp_path)
        publish(client, 1, waiting.code)
        waiting.wait_until_training()
        waiting.started.unlink()
        stopped.pause()

        # When another worker takes it over, and the first one goes on
        stack.start_worker(slots=1, broker=url)
        waiting.wait_until_training()
        stopped.go_on()
        waiting.go_on()

        # Then one verdict is stored, and both workers go on
        [result] = client.follow([1], timeout=WITHIN)
        for fold_id in range(2, 8):
            publish(client, fold_id, DUMMY)
        others = list(client.follow(range(2, 8), timeout=WITHIN))
    assert result.state is FoldState.TESTED
    assert stored_verdicts(stack, 1) == ["TESTED"]
    assert {other.state for other in others} == {FoldState.TESTED}
    assert stopped.process.poll() is None


@pytest.mark.parametrize("kind", ["stack", "postgres_stack"])
def test_a_collector_stopped_for_longer_than_its_heartbeats_loses_and_doubles_nothing(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    # Given a collector with short AMQP heartbeats and a standby
    stack: Stack = request.getfixturevalue(kind)
    stack.declare_topology()
    url = f"{stack.logins.of(BrokerUser.COLLECTOR)}?heartbeat=1"
    stopped = stack.start_collector(broker=url)
    stack.start_collector(broker=url)
    stack.start_worker("prepare")
    stack.start_worker("folds")
    with stack.client() as client:
        publish_iris(client, tmp_path)

        # When it is stopped while results come in, and goes on later
        for fold_id in range(1, 11):
            publish(client, fold_id, DUMMY)
        pause_outside_transactions(stack, stopped)
        first = list(client.follow(range(1, 11), timeout=WITHIN))
        stopped.go_on()
        for fold_id in range(11, 15):
            publish(client, fold_id, DUMMY)
        second = list(client.follow(range(11, 15), timeout=WITHIN))

    # Then every fold has one verdict
    assert {result.state for result in (*first, *second)} == {FoldState.TESTED}
    assert all(stored_verdicts(stack, fold_id) == ["TESTED"] for fold_id in range(1, 15))


def test_the_same_fold_published_again_and_again_is_run_once(stack: Stack, tmp_path: Path) -> None:
    # Given a fold typed by hand, without a message id
    stack.start_all(slots=2)
    fold = {
        "submission_fold_id": 1,
        "submission_id": 1,
        "dataset": "iris",
        "files": {"classifier.py": DUMMY},
        "train_is": list(range(50)),
        "test_is": list(range(50, 75)),
    }
    with stack.client() as client:
        publish_iris(client, tmp_path)
        connection = pika.BlockingConnection(
            pika.URLParameters(stack.logins.of(BrokerUser.PRODUCER))
        )
        channel = connection.channel()

        def publish_raw(key: str, **properties: str) -> None:
            sent = pika.BasicProperties(**properties)
            channel.basic_publish(WORK, key, json.dumps(fold).encode(), properties=sent)

        # When it comes three times as it is, twice with one id, and once with another
        for _ in range(3):
            publish_raw("folds.default")
        for message_id in ("second", "second", "third"):
            publish_raw("folds.default", message_id=message_id)
        client.status()

        # Then it has one verdict that counts, the two others are rejected, and nothing is left
        [result] = client.follow([1], timeout=WITHIN)
        wait_until(
            lambda: all(
                depth is not None and depth.messages == 0
                for depth in client.queue_depths([folds_queue("default"), COLLECTOR_QUEUE]).values()
            ),
            within=WITHIN,
            what="empty queues",
        )
        connection.close()
    assert result.state is FoldState.TESTED
    rows = stack.rows("select run_id, standing, state from runs order by run_id")
    first = Envelope(body=json.dumps(fold).encode(), routing_key="").run_id
    assert {(row.run_id, row.standing, row.state) for row in rows} == {
        (first, "current", "TESTED"),
        ("second", "rejected", "ERROR"),
        ("third", "rejected", "ERROR"),
    }
    assert np.all(result.test_predictions >= 0)
