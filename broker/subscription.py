"""`Subscription`: what an exchange sends from now on, in a queue of one's own.

The queue is exclusive: nobody else can delete it, and it lives as long as its connection. When
that is lost, another one is declared afterwards, and the reader is told that it may have missed
something.
"""

from __future__ import annotations

import queue
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

from pika.exceptions import ChannelClosedByBroker

from broker.io_thread import IOThread, settle
from broker.properties import from_pika
from schemas.errors import BrokerError, TopologyError
from schemas.wire import Envelope

MAX_WAITING = 100_000
"""Messages kept for a reader that is slow; the oldest are dropped."""

_PREFETCH = 500
_ACK_EVERY = 100


@dataclass(frozen=True)
class Interrupted:
    """The connection was lost in between: ask for what may have been missed."""


class Subscription:
    """A tenant of the I/O thread, read by one thread at a time."""

    def __init__(self, thread: IOThread, exchange: str, keys: tuple[str, ...]) -> None:
        self._thread = thread
        self._exchange = exchange
        self._keys = keys
        self._inbox: queue.SimpleQueue[tuple[Any, int, Envelope] | Interrupted | BrokerError] = (
            queue.SimpleQueue()
        )
        self._channel: Any = None
        self._taken = 0
        self.established: Future[None] = Future()
        """Done once the queue is bound: what is published after it will be read."""

        thread.submit(lambda: thread.add(self))

    def next(self, seconds: float) -> Envelope | Interrupted | None:
        """Wait for the next message; None when there is none within `seconds`.

        Raises BrokerError when the link is closed, or the broker refuses to go on.
        """
        try:
            item = self._inbox.get(timeout=max(seconds, 0))
        except queue.Empty:
            return None
        if isinstance(item, BrokerError):
            self._inbox.put(item)
            raise item
        if isinstance(item, Interrupted):
            return item
        channel, tag, envelope = item
        self._taken += 1
        if self._taken % _ACK_EVERY == 0:
            self._thread.submit(lambda: self._ack(channel, tag))
        return envelope

    def interrupt(self) -> None:
        """Make the reader's next message an `Interrupted`, after those that are here already."""
        self._inbox.put(Interrupted())

    def close(self) -> None:
        """Delete the queue. Can be called twice, and after the link was closed."""
        try:
            self._thread.submit(self._leave)
        except BrokerError:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- in the I/O thread ------------------------------------------------------------------

    def opened(self, connection: Any) -> None:
        """Declare the queue, bind it, consume."""
        connection.channel(on_open_callback=self._begin)

    def ended(self, error: BrokerError) -> None:
        """Tell the reader."""
        settle(self.established, error)
        self._inbox.put(error)

    def _begin(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_closed)
        channel.basic_qos(prefetch_count=_PREFETCH)
        channel.queue_declare(
            "",
            exclusive=True,
            auto_delete=True,
            arguments={"x-max-length": MAX_WAITING},
            callback=lambda frame: self._consume(channel, frame.method.queue),
        )

    def _consume(self, channel: Any, name: str) -> None:
        for key in self._keys:
            channel.queue_bind(name, self._exchange, routing_key=key)
        channel.basic_consume(
            name,
            lambda _channel, method, properties, body: self._inbox.put(
                (channel, method.delivery_tag, from_pika(method, properties, body))
            ),
            callback=lambda _: self._on_consuming(),
        )

    def _on_consuming(self) -> None:
        if self.established.done():
            self._inbox.put(Interrupted())
        settle(self.established, None)

    def _ack(self, channel: Any, tag: int) -> None:
        if channel.is_open:
            channel.basic_ack(tag, multiple=True)

    def _on_closed(self, _channel: Any, error: BaseException) -> None:
        if isinstance(error, ChannelClosedByBroker):
            self._thread.remove(self)
            self.ended(
                TopologyError(
                    f"cannot subscribe to exchange {self._exchange}: {error.reply_text}. "
                    "`datarun broker setup` declares exchanges and queues"
                )
            )

    def _leave(self) -> None:
        self._thread.remove(self)
        if self._channel is not None and self._channel.is_open:
            self._channel.close()
