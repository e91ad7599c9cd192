"""A node whose streams are not up yet is not stopped: RabbitMQ 3.10 may then lose them for good."""

from __future__ import annotations

from pathlib import Path

import pika
import pytest

from broker.node_streams import wait_for_streams
from broker.private_node import PrivateNode

STREAMS = [f"stream-{number}" for number in range(20)]


@pytest.mark.slow
def test_streams_are_up_when_a_node_that_has_just_started_is_stopped(tmp_path: Path) -> None:
    # Given a node with streams
    node = PrivateNode(tmp_path / "node")
    with node as address:
        connection = pika.BlockingConnection(pika.URLParameters(address.amqp_url))
        for name in STREAMS:
            connection.channel().queue_declare(
                name, durable=True, arguments={"x-queue-type": "stream"}
            )
        connection.close()

    # When it is stopped as soon as it takes connections
    with node:
        pass

    # Then it brings them up again
    with node as address:
        assert wait_for_streams(address.amqp_url, address.management_url, seconds=30)
        connection = pika.BlockingConnection(pika.URLParameters(address.amqp_url))
        channel = connection.channel()
        for name in STREAMS:
            channel.queue_declare(name, passive=True)
        connection.close()


def test_node_that_does_not_answer_is_not_waited_for() -> None:
    assert wait_for_streams("amqp://a:b@127.0.0.1:1/%2F", "http://127.0.0.1:1", seconds=30)
