"""Whether the streams of a private RabbitMQ node are up, which takes a moment after its start."""

from __future__ import annotations

import time
from contextlib import closing
from urllib.parse import quote

import pika
import requests
from pika.adapters.utils.connection_workflow import AMQPConnectorException

_PAUSE = 0.1
_IMPATIENT = "?socket_timeout=2&stack_timeout=5"
"""A node that hangs does not keep its stop waiting."""


def wait_for_streams(amqp_url: str, management_url: str, *, seconds: float) -> bool:
    """Whether all are up within so many seconds. Who does not answer has none to wait for.

    RabbitMQ 3.10 can lose the leaders of its streams for good when it is stopped while it elects
    them: their queues are "down or inaccessible" after every start from then on.
    """
    deadline = time.monotonic() + seconds
    try:
        for vhost, names in _streams(amqp_url, management_url).items():
            where = f"{amqp_url.rpartition('/')[0]}/{quote(vhost, safe='')}{_IMPATIENT}"
            with closing(pika.BlockingConnection(pika.URLParameters(where))) as connection:
                while names := [name for name in names if not _is_up(connection, name)]:
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(_PAUSE)
    except (
        *(OSError, ValueError, requests.RequestException),
        *(pika.exceptions.AMQPError, AMQPConnectorException),
    ):
        return True
    return True


def _streams(amqp_url: str, management_url: str) -> dict[str, list[str]]:
    """Names by virtual host."""
    login = pika.URLParameters(amqp_url).credentials
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no .netrc: this is loopback
        session.auth = (login.username, login.password)
        answer = session.get(f"{management_url}/api/queues?columns=vhost,name,type", timeout=5)
        answer.raise_for_status()
        found: dict[str, list[str]] = {}
        for queue in answer.json():
            if queue.get("type") == "stream":
                found.setdefault(queue["vhost"], []).append(queue["name"])
        return found


def _is_up(connection: pika.BlockingConnection, stream: str) -> bool:
    channel = connection.channel()
    try:
        channel.queue_declare(stream, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    channel.close()
    return True
