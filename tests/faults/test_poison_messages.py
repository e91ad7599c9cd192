"""No message, whatever its properties and its body, keeps the services from the next one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pika
import pytest

from broker.private_node import NodeAddress
from datarun import Client, HoldOut
from schemas.states import FoldState
from schemas.topology import COLLECTOR_QUEUE, CONTROL_STREAM, DEAD, EVENTS, WORK, folds_queue
from tests.support.rabbitmq import management
from tests.support.stack import Stack
from tests.support.submissions import DUMMY, write_iris

WITHIN = 30
_ids = itertools.count(1)


@pytest.fixture(scope="module")
def client(shared_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with shared_stack.client() as client:
        client.publish_data(
            "iris",
            files=[write_iris(tmp_path_factory.mktemp("iris"))],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=WITHIN,
        )
        yield client


def publish(stack: Stack, exchange: str, key: str, body: bytes, **properties: Any) -> None:
    """As an administrator, whom no right stops, with another AMQP library: pika passes bytes on."""
    connection = pika.BlockingConnection(pika.URLParameters(stack.logins.admin))
    try:
        connection.channel().basic_publish(
            exchange, key, body, properties=pika.BasicProperties(**properties)
        )
    finally:
        connection.close()


def check_that_all_goes_on(stack: Stack, client: Client) -> None:
    """The next fold is run and stored, and no service has lost its connection meanwhile."""
    fold_id = next(_ids)
    client.publish_fold(
        submission_fold_id=fold_id,
        submission_id=1,
        dataset="iris",
        files={"classifier.py": DUMMY},
        train_is=np.arange(50),
        test_is=np.arange(50, 75),
    )
    [result] = client.follow([fold_id], timeout=WITHIN)
    assert result.state is FoldState.TESTED
    for service in stack.services:
        assert service.process.poll() is None, service.log
        lines = map(json.loads, service.log.splitlines())
        lost = [line for line in lines if line["action"] == "connection_lost"]
        # Replies have a connection of their own, which whoever names a reply address may cost.
        assert [line for line in lost if not line["connection"].endswith("-replies")] == []


@pytest.mark.parametrize(
    "properties",
    [
        {"message_id": b"na\xefve"},
        {"type": b"\xff"},
        {"correlation_id": b"\xff"},
        {"app_id": b"\xff"},
        {"content_type": b"\xff"},
        {"timestamp": 1_795_000_000_000_000},
        {"timestamp": 2**63},
        {"headers": {"name": b"\xff"}},
        {"headers": {"nested": {"at": [None, {"deeper": True}]}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("key", ["folds.default", "data", "request"])
def test_properties_that_cannot_be_read_end_no_connection(
    client: Client, shared_stack: Stack, properties: dict[str, Any], key: str
) -> None:
    publish(shared_stack, WORK, key, b"{}", **properties)
    check_that_all_goes_on(shared_stack, client)


def test_a_fold_whose_timestamp_cannot_be_read_is_run(client: Client, shared_stack: Stack) -> None:
    # Given a fold that a program publishes with a timestamp in microseconds
    fold = {
        "submission_fold_id": 500,
        "submission_id": 1,
        "dataset": "iris",
        "files": {"classifier.py": DUMMY},
        "train_is": list(range(50)),
        "test_is": list(range(50, 75)),
    }
    body = json.dumps(fold).encode()
    publish(shared_stack, WORK, "folds.default", body, timestamp=1_795_000_000_000_000)

    # Then it is run as any other
    [result] = client.follow([500], timeout=WITHIN)
    assert result.state is FoldState.TESTED


def test_a_header_that_cannot_be_written_again_ends_no_worker(
    client: Client, shared_stack: Stack, rabbitmq: NodeAddress
) -> None:
    # Given a malformed fold with a double as header, which the worker dead-letters
    vhost = shared_stack.logins.admin.rpartition("/")[2]
    management(
        rabbitmq,
        "POST",
        f"/api/exchanges/{vhost}/{WORK}/publish",
        json={
            "properties": {"headers": {"weight": 1e300}},
            "routing_key": "folds.default",
            "payload": "{}",
            "payload_encoding": "string",
        },
    )
    check_that_all_goes_on(shared_stack, client)


LONE_SURROGATE = rb'{"run_id": "\ud800", "submission_fold_id": 600}'
STATUS = {"type": "datarun.status-request.v1"}


@pytest.mark.parametrize(
    ("exchange", "key", "body", "properties"),
    [
        (WORK, "folds.default", LONE_SURROGATE, {}),
        (WORK, "cancel", LONE_SURROGATE, {}),
        (WORK, "acknowledge", rb'{"run_ids": ["\ud800"]}', {}),
        (EVENTS, "fold.5", LONE_SURROGATE, {"type": "datarun.fold-tested.v1"}),
        (EVENTS, "fold.5", LONE_SURROGATE, {}),
        (EVENTS, "heartbeat", b"x", {}),
        (WORK, "request", b"{}", {**STATUS, "reply_to": COLLECTOR_QUEUE}),
        (WORK, "request", b"{}", {**STATUS, "reply_to": CONTROL_STREAM}),
        (WORK, "request", b"{}", {**STATUS, "reply_to": folds_queue("default")}),
        (WORK, "request", b"{}", {**STATUS, "reply_to": "x" * 255}),
        (WORK, "request", b"{}", {**STATUS, "reply_to": "amq.rabbitmq.reply-to"}),
        (WORK, "request", b"{", {**STATUS, "reply_to": COLLECTOR_QUEUE}),
        (WORK, "k" * 255, b"x", {"type": "t" * 255, "message_id": "m" * 255}),
        (DEAD, "x", b"{}", {"headers": {"datarun-reason": "a\0b", "datarun-source": 5}}),
        (DEAD, "folds.default", LONE_SURROGATE, {"headers": {"datarun-reason": b"\xff"}}),
    ],
    ids=str,
)
def test_no_body_and_no_reply_address_ends_a_service(
    client: Client,
    shared_stack: Stack,
    exchange: str,
    key: str,
    body: bytes,
    properties: dict[str, Any],
) -> None:
    publish(shared_stack, exchange, key, body, **properties)
    check_that_all_goes_on(shared_stack, client)


@pytest.mark.parametrize(
    "name", ["garbage", "garbage.key", "g2gB.key", f"{'g2wA' * 40}.key", "..", "AAAA.AAAA==", "é.é"]
)
def test_a_forged_reply_address_costs_the_collector_no_connection(
    client: Client, shared_stack: Stack, name: str
) -> None:
    address = f"amq.rabbitmq.reply-to.{name}"
    publish(shared_stack, WORK, "request", b"{}", **STATUS, reply_to=address)
    publish(shared_stack, WORK, "request", b"{", **STATUS, reply_to=address)
    check_that_all_goes_on(shared_stack, client)
