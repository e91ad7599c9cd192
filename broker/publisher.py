"""`Publisher`: confirmed publishing, and requests with their replies, on one channel.

Direct reply-to wants a request on the channel that consumes the replies
(https://www.rabbitmq.com/docs/direct-reply-to), so both share it. Everything that was sent and not
confirmed when the connection was lost is sent again with the same message_id.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker

from broker.io_thread import IOThread, settle
from broker.properties import from_pika, to_pika
from schemas.errors import BrokerError, PublishError, TopologyError
from schemas.wire import Envelope

REPLY_TO = "amq.rabbitmq.reply-to"
_NOT_FOUND = 404


@dataclass(eq=False)
class Outgoing:
    """A message on its way: until its confirm, or until its reply."""

    exchange: str
    envelope: Envelope
    confirmed: Future[None]
    reply: Future[Envelope] | None = None

    def settle(self, outcome: BrokerError | None) -> None:
        """The broker has it (None), or refuses it."""
        settle(self.confirmed, outcome)
        if self.reply is not None and outcome is not None:
            settle(self.reply, outcome)

    @property
    def is_given_up(self) -> bool:
        """Whether its caller no longer waits."""
        return (self.confirmed if self.reply is None else self.reply).cancelled()


class Publisher:
    """A tenant of the I/O thread."""

    def __init__(self, thread: IOThread) -> None:
        self._thread = thread
        self._channel: Any = None
        self._opening = False
        self._waiting: deque[Outgoing] = deque()
        self._sent: dict[int, Outgoing] = {}
        self._asked: dict[str, Outgoing] = {}
        self._returned: dict[int, BrokerError] = {}
        self._tag = 0
        thread.submit(lambda: thread.add(self))

    def publish(self, exchange: str, envelope: Envelope) -> Future[None]:
        """The future is done once the broker has confirmed, or fails with a BrokerError."""
        outgoing = Outgoing(exchange, envelope, Future())
        self._thread.submit(lambda: self._take(outgoing))
        return outgoing.confirmed

    def request(self, exchange: str, envelope: Envelope) -> Future[Envelope]:
        """The future is done once the reply is there; `envelope` has a correlation_id."""
        reply: Future[Envelope] = Future()
        outgoing = Outgoing(exchange, replace(envelope, reply_to=REPLY_TO), Future(), reply)
        self._thread.submit(lambda: self._take(outgoing))
        return reply

    # --- in the I/O thread ------------------------------------------------------------------

    def opened(self, connection: Any) -> None:
        """Open the channel; what waits is sent once it consumes replies and has confirms on."""
        self._opening = True
        connection.channel(on_open_callback=self._prepare)

    def ended(self, error: BrokerError) -> None:
        """Nothing that is under way will be confirmed or answered."""
        for outgoing in (*self._sent.values(), *self._asked.values(), *self._waiting):
            outgoing.settle(error)

    def _prepare(self, channel: Any) -> None:
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(
            self._on_confirm,
            callback=lambda _: channel.basic_consume(
                REPLY_TO, self._on_reply, auto_ack=True, callback=lambda _: self._ready(channel)
            ),
        )

    def _ready(self, channel: Any) -> None:
        self._channel = channel
        self._opening = False
        self._tag = 0
        while self._waiting and self._channel is not None:
            self._send(self._waiting.popleft())

    def _take(self, outgoing: Outgoing) -> None:
        if self._channel is not None and self._channel.is_open:
            self._send(outgoing)
            return
        self._waiting.append(outgoing)
        if self._channel is None and not self._opening:
            self._thread.when_open(self.opened)

    def _send(self, outgoing: Outgoing) -> None:
        if outgoing.is_given_up:
            return
        envelope = outgoing.envelope
        self._tag += 1
        self._sent[self._tag] = outgoing
        if outgoing.reply is not None:
            for key in [key for key, asked in self._asked.items() if asked.is_given_up]:
                del self._asked[key]
            self._asked[str(envelope.correlation_id)] = outgoing
        self._channel.basic_publish(
            outgoing.exchange,
            envelope.routing_key,
            envelope.body,
            to_pika(envelope, self._thread.user),
            mandatory=True,
        )

    def _on_confirm(self, frame: Any) -> None:
        last = frame.method.delivery_tag
        tags = [last]
        if frame.method.multiple:
            tags = [tag for tag in self._sent if tag <= last]
        for tag in tags:
            outgoing = self._sent.pop(tag)
            refused = self._returned.pop(tag, None)
            if isinstance(frame.method, pika.spec.Basic.Nack):
                refused = PublishError(f"RabbitMQ refused {_named(outgoing)} (nack)")
            outgoing.settle(refused)
            if refused is not None:
                self._asked.pop(str(outgoing.envelope.correlation_id), None)

    def _on_return(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """A returned message is confirmed afterwards; the confirm settles it."""
        for tag, outgoing in self._sent.items():
            envelope = outgoing.envelope
            if (
                tag not in self._returned
                and envelope.message_id == properties.message_id
                and envelope.body == body
            ):
                self._returned[tag] = PublishError(
                    f"{_named(outgoing)} was returned by RabbitMQ ({method.reply_text}): no queue "
                    "takes it. `datarun broker setup` declares the queues"
                )
                return

    def _on_reply(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        outgoing = self._asked.pop(str(properties.correlation_id), None)
        if outgoing is not None and outgoing.reply is not None:
            settle(outgoing.reply, from_pika(method, properties, body))

    def _on_closed(self, channel: Any, error: BaseException) -> None:
        """The broker refused something sent (which, it does not say), or the connection is lost."""
        refused_to_open, self._opening, self._channel = self._opening, False, None
        sent, self._sent = list(self._sent.values()), {}
        self._returned.clear()
        if isinstance(error, ChannelClosedByBroker):
            if refused_to_open:
                sent, self._waiting = [*sent, *self._waiting], deque()
            for outgoing in sent:
                self._asked.pop(str(outgoing.envelope.correlation_id), None)
                outgoing.settle(_refusal(outgoing, error))
            sent = []
        asked = [outgoing for outgoing in self._asked.values() if outgoing not in sent]
        self._asked.clear()
        self._waiting.extendleft(reversed([*sent, *asked]))
        if channel.connection.is_open and not refused_to_open:
            self.opened(channel.connection)


def _refusal(outgoing: Outgoing, error: ChannelClosedByBroker) -> BrokerError:
    if error.reply_code == _NOT_FOUND:
        return TopologyError(
            f"{_named(outgoing)} cannot be published: {error.reply_text}. "
            "`datarun broker setup` declares exchanges and queues"
        )
    return PublishError(f"RabbitMQ refused {_named(outgoing)}: {error.reply_text}")


def _named(outgoing: Outgoing) -> str:
    envelope = outgoing.envelope
    return f"the {envelope.type} message to {outgoing.exchange} ({envelope.routing_key})"
