"""The queue of dead letters, through a line that breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.blocking import BlockingLink
from broker.dead_letters import DeadLetters
from datarun.up.readiness import declare_shared_topology
from schemas.errors import BrokerError
from schemas.settings import Settings
from schemas.topology import DEAD
from schemas.wire import Envelope
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost
from tests.support.tcp_proxy import TcpProxy


def test_a_letter_is_not_said_to_be_gone_when_the_line_was(
    vhost: Vhost, proxy: Callable[[int], TcpProxy]
) -> None:
    # Given a dead letter, and somebody who looks at it
    declare_shared_topology(vhost.admin_url, Settings())
    with BlockingLink(vhost.admin_url, "test") as link:
        link.publish(DEAD, Envelope(body=b"{", routing_key="data"), deadline=10)
    port = vhost.node.amqp_port
    line = proxy(port)
    dead = DeadLetters(vhost.admin_url.replace(f":{port}/", f":{line.port}/"))
    letter = next(dead.letters())

    # When the line breaks before he throws it away, then he is told so
    line.cut()
    with dead:
        with pytest.raises(BrokerError):
            dead.discard(letter)

        # And so is who tries again, or goes on with the next letter, all the same
        with pytest.raises(BrokerError):
            dead.discard(letter)
        with pytest.raises(BrokerError):
            next(dead.letters())

    # And it is still there
    def there() -> bool:
        with DeadLetters(vhost.admin_url) as again:
            return [found.id for found in again.letters()] == [letter.id]

    wait_until(there, what="the letter back in its queue")

    # When the line holds, then it is gone
    with DeadLetters(vhost.admin_url) as again:
        again.discard(next(again.letters()))
    assert not there()
