"""Who says what at RabbitMQ: a test that plays a service or a client logs in as its user."""

from __future__ import annotations

from itertools import groupby
from types import TracebackType

from broker.blocking import BlockingLink
from schemas.permissions import BrokerUser
from schemas.topology import CONTROL, EVENTS, KEY_UPLOAD, RESULTS
from schemas.wire import Envelope
from tests.support.rabbitmq import Logins


def sender_of(exchange: str, key: str) -> BrokerUser:
    """Who publishes such messages, and may."""
    if exchange in (CONTROL, RESULTS):
        return BrokerUser.COLLECTOR
    if exchange != EVENTS:
        return BrokerUser.PRODUCER
    prepares = key == KEY_UPLOAD or key.startswith("data.")
    return BrokerUser.PREPARER if prepares else BrokerUser.WORKER


class Players:
    """A connection of each user whom a test plays, from when it first does."""

    def __init__(self, logins: Logins) -> None:
        self.logins = logins
        self._links: dict[BrokerUser, BlockingLink] = {}

    def __enter__(self) -> Players:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for link in self._links.values():
            link.close()

    @property
    def producer(self) -> BlockingLink:
        """As whom a test asks, and follows."""
        return self._link(BrokerUser.PRODUCER)

    def publish(self, *batch: tuple[str, Envelope]) -> None:
        """Messages with their exchanges, in this order, each by whoever sends such; confirmed."""
        for user, some in groupby(batch, lambda one: sender_of(one[0], one[1].routing_key)):
            for _ in self._link(user).publish_many(some, deadline=30):
                continue

    def _link(self, user: BrokerUser) -> BlockingLink:
        if user not in self._links:
            self._links[user] = BlockingLink(self.logins.of(user), "test")
        return self._links[user]
