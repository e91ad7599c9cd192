"""One running stack for the tests that speak to it without our client, and two ways to speak.

Its second pool, `gpu`, has queues and no worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pika
import pytest

from broker.private_node import NodeAddress
from datarun.up.readiness import declare_shared_topology
from schemas.permissions import BrokerUser
from schemas.settings import Settings
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost, management, new_vhost
from tests.support.stack import Stack
from tests.support.strict import strict_if_required

IDLE_POOL = "gpu"
_PROPERTIES = {
    *("message_id", "type", "content_type", "delivery_mode", "priority", "timestamp", "app_id"),
    *("user_id", "reply_to", "correlation_id", "expiration"),
}
_REPLY_TO = "amq.rabbitmq.reply-to"


class Console:
    """The HTTP API that RabbitMQ's console itself uses."""

    def __init__(self, vhost: Vhost) -> None:
        self._node = vhost.node
        self._vhost = quote(vhost.name, safe="")

    def publish(self, exchange: str, key: str, payload: str) -> bool:
        """As somebody types it who fills in nothing else; whether a queue took it."""
        typed = {"properties": {}, "routing_key": key, "payload": payload}
        answer = management(
            self._node,
            "POST",
            f"/api/exchanges/{self._vhost}/{exchange}/publish",
            json={**typed, "payload_encoding": "string"},
        )
        return bool(answer.json()["routed"])

    def get(self, queue: str, count: int = 100) -> list[dict[str, Any]]:
        """Messages of a queue, which stay in it: "Nack message requeue true"."""
        answer = management(
            self._node,
            "POST",
            f"/api/queues/{self._vhost}/{queue}/get",
            json={"count": count, "ackmode": "ack_requeue_true", "encoding": "auto"},
        )
        return list(answer.json())

    def names(self, what: str) -> set[str]:
        """Of the `exchanges` or `queues` it shows."""
        rows = management(self._node, "GET", f"/api/{what}/{self._vhost}").json()
        return {row["name"] for row in rows}


class Program:
    """A program in any language: AMQP and JSON, nothing of datarun's."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self._connection.channel()
        self.channel.confirm_delivery()
        self._replies: list[tuple[pika.BasicProperties, bytes]] = []
        # RabbitMQ wants them consumed before the first question, on the same channel.
        self.channel.basic_consume(
            _REPLY_TO, lambda _, __, *reply: self._replies.append(reply), auto_ack=True
        )

    def publish(self, exchange: str, key: str, body: bytes, properties: Mapping[str, Any]) -> None:
        """Mandatory and confirmed; an exception when no queue takes it."""
        known = {name: value for name, value in properties.items() if name in _PROPERTIES}
        headers = {name: value for name, value in properties.items() if name not in _PROPERTIES}
        self.channel.basic_publish(
            exchange,
            key,
            body,
            pika.BasicProperties(**known, headers=headers or None),
            mandatory=True,
        )

    def ask(
        self, exchange: str, key: str, body: bytes, properties: Mapping[str, Any]
    ) -> tuple[pika.BasicProperties, Any]:
        """Publish with a reply-to; the reply's properties and its JSON."""
        self._replies.clear()
        self.publish(exchange, key, body, {**properties, "reply_to": _REPLY_TO})

        def answered() -> bool:
            self._connection.process_data_events(0.1)
            return bool(self._replies)

        wait_until(answered, every=0, what=f"the reply to {body[:200]!r}")
        answer, content = self._replies[0]
        return answer, json.loads(content)

    def close(self) -> None:
        self._connection.close()


class Wire:
    """The stack, its virtual host, and who speaks to it."""

    def __init__(self, stack: Stack, vhost: Vhost) -> None:
        self.stack = stack
        self.vhost = vhost
        self.console = Console(vhost)
        self.client = stack.client()
        self.worker = Program(vhost.logins.of(BrokerUser.WORKER))
        """Plays a worker of folds, which puts aside what it cannot read."""

        self.program = Program(vhost.logins.of(BrokerUser.PRODUCER))

    def close(self) -> None:
        self.program.close()
        self.worker.close()
        self.client.close()


@pytest.fixture(scope="package")
def wire(rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """For all files of tests/acceptance/wire; each uses names of its own."""
    folder = tmp_path_factory.mktemp("wire")
    with new_vhost(rabbitmq) as vhost:
        declare_shared_topology(vhost.logins.admin, Settings(pools=("default", IDLE_POOL)))
        stack = Stack(vhost.logins, f"sqlite:///{folder / 'datarun.sqlite'}", folder)
        try:
            stack.start_all(isolation=strict_if_required())
            made = Wire(stack, vhost)
            yield made
            made.close()
        finally:
            stack.close()
