"""What both roles' delivery loops share: reading a message, sure publishing, dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, ParamSpec, TypeVar

from broker.delivery import Delivery
from broker.link import Link
from consumer import metrics
from schemas.errors import MessageError, PublishError
from schemas.frozen import Message
from schemas.topology import DEAD, REASON_HEADER, SOURCE_HEADER, WORK
from schemas.wire import Envelope, detour, unpack

logger = logging.getLogger(__name__)

LARGE_BYTES = 100_000
"""From here on, decoding and encoding leave the event loop for a thread (about 1 ms)."""

RETURNED_PAUSE_SECONDS = 2.0
"""Pause before publishing again what the broker returned."""

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound=Message)


class RecentIds:
    """The ids seen last, bounded: the oldest are forgotten first."""

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, name: str) -> None:
        """Remember `name` as the newest."""
        self._ids[name] = None
        self._ids.move_to_end(name)
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)

    def __contains__(self, name: str) -> bool:
        return name in self._ids


async def aside(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `work`, done in a thread when `size` bytes would hold up the event loop."""
    if size < LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def publish_surely(link: Link, exchange: str, envelope: Envelope) -> None:
    """Publish until it is confirmed: nothing is acked whose consequence is not with the broker.

    What the broker returns (a queue that the operator has yet to declare) is published again.
    """
    while True:
        try:
            await link.publish(exchange, envelope)
        except PublishError as error:
            logger.error(
                "published in vain, will try again: %s",
                error,
                extra={
                    "action": "publish_failed",
                    "exchange": exchange,
                    "type": envelope.type,
                    "run_id": envelope.run_id,
                    "worker": link.name,
                },
            )
            await asyncio.sleep(RETURNED_PAUSE_SECONDS)
        else:
            return


def republished(envelope: Envelope, key: str, **headers: object) -> Envelope:
    """`envelope` to be published again under another identity, with these headers besides its own.

    The user_id goes, since RabbitMQ refuses that of somebody else (406). The broker's x-death
    history goes, or it would grow with every round. And headers go that are no texts, whole
    numbers or truth values: pamqp cannot write all that it reads (doubles, raw bytes).
    """
    own = {
        name: value
        for name, value in envelope.headers.items()
        if isinstance(value, str | int) and not _is_history(name)
    }
    return replace(
        envelope,
        exchange="",
        routing_key=key,
        message_id=envelope.run_id,
        user_id=None,
        expiration=None,
        headers={**own, **headers},
        persistent=True,
    )


class Intake(Generic[M]):
    """Turns the deliveries of one work queue into messages of one type.

    source: the routing key with which that queue's messages are published.
    """

    def __init__(self, link: Link, model: type[M], source: str) -> None:
        self._link = link
        self._model = model
        self._source = source

    async def read(self, delivery: Delivery) -> M | None:
        """The message; None when the delivery is settled already, since it was not usable here."""
        envelope = delivery.envelope
        if reason := detour(envelope) or self._misrouted(envelope):
            ids = {"action": "detoured", "run_id": envelope.run_id, "worker": self._link.name}
            logger.warning("dropped: %s", reason, extra=ids)
            await delivery.ack()
            return None
        if not envelope.exchange and SOURCE_HEADER not in envelope.headers:
            # Typed into a queue's page of the management console, which publishes to the default
            # exchange: the collector has not seen it. It goes the regular way.
            again = republished(envelope, self._source, **{SOURCE_HEADER: self._source})
            await publish_surely(self._link, WORK, again)
            await delivery.ack()
            return None
        try:
            message = await aside(len(envelope.body), unpack, self._keyed(envelope))
            if not isinstance(message, self._model):
                raise MessageError(
                    f"a {message.TYPE} message where only {self._model.TYPE} belongs"
                )
        except MessageError as error:
            await self.dead_letter(delivery, str(error))
            return None
        return message

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Put the delivery's message where a person can list, mend and replay it."""
        envelope = delivery.envelope
        headers = {REASON_HEADER: reason[:1000], SOURCE_HEADER: self._source}
        await publish_surely(self._link, DEAD, republished(envelope, self._source, **headers))
        await delivery.ack()
        metrics.DEAD_LETTERED.inc()
        logger.warning(
            "malformed message to the dead letters: %s",
            reason[:300],
            extra={
                "action": "dead_lettered",
                "run_id": envelope.run_id,
                "source": self._source,
                "worker": self._link.name,
            },
        )

    def _misrouted(self, envelope: Envelope) -> str | None:
        """Why a message is not one that was published to this queue.

        RabbitMQ checks the right to publish with a routing key, and not with those that the headers
        CC and BCC name beside it: https://www.rabbitmq.com/docs/sender-selected

        The default exchange is for administrators, and for what comes back from waiting.
        """
        if not envelope.exchange:
            return None
        if envelope.exchange == WORK and envelope.routing_key == self._source:
            return None
        return f"it came by exchange {envelope.exchange!r} with key {envelope.routing_key!r}"

    def _keyed(self, envelope: Envelope) -> Envelope:
        # What comes back from the waiting queue has that queue's name as routing key.
        return replace(envelope, routing_key=self._source)


def _is_history(header: str) -> bool:
    return header.startswith(("x-death", "x-first-death", "x-last-death"))
