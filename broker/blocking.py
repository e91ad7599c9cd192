"""`BlockingLink`: RabbitMQ for programs that are not asynchronous, from any number of threads.

Every call has a deadline in seconds and ends with an answer or with a BrokerError that says what
was waited for. A connection that is lost comes back by itself.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from pika.exceptions import AMQPError, ChannelClosedByBroker, ChannelClosedByClient

from broker.io_thread import IOThread, settle
from broker.publisher import Publisher
from broker.subscription import Subscription
from schemas.errors import (
    BrokerUnreachable,
    CollectorUnreachable,
    MessageError,
    PublishError,
    RequestError,
    TopologyError,
)
from schemas.frozen import Message
from schemas.requests import ErrorReply
from schemas.topology import COLLECTOR_QUEUE, KEY_REQUEST, WORK
from schemas.wire import Envelope, pack, unpack

WINDOW_MESSAGES = 200
WINDOW_BYTES = 32 << 20
"""What `publish_many` has under way at one time."""

_NOT_FOUND = 404
_RETRY_SECONDS = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class QueueDepth:
    """How a queue stands."""

    messages: int
    """Ready for delivery; those that a worker holds are not counted."""

    consumers: int


class BlockingLink:
    """One connection, used by any number of threads; closed with `close` or `with`."""

    def __init__(self, url: str, name: str, connect_timeout: float = 30) -> None:
        """Connect. Raises BrokerUnreachable, or ConfigurationError for a malformed URL."""
        self._thread = IOThread(url, name, connect_timeout)
        self._publisher = Publisher(self._thread)

    def publish(self, exchange: str, envelope: Envelope, *, deadline: float) -> None:
        """Return once the broker has confirmed.

        Raises PublishError when no queue takes the message, or no confirm comes in time: it may
        have been published then, and can be published again with the same message_id.
        """
        self._confirmed(self._publisher.publish(exchange, envelope), envelope, deadline)

    def publish_many(
        self, messages: Iterable[tuple[str, Envelope]], *, deadline: float
    ) -> Iterator[Envelope]:
        """Publish pairs of exchange and envelope, many at a time; yield each once confirmed.

        `deadline` holds for each message. Raises PublishError as `publish` does.
        """
        pending: deque[tuple[Envelope, Future[None]]] = deque()
        size = 0
        for exchange, envelope in messages:
            pending.append((envelope, self._publisher.publish(exchange, envelope)))
            size += len(envelope.body)
            while len(pending) >= WINDOW_MESSAGES or (pending and size > WINDOW_BYTES):
                oldest, future = pending.popleft()
                self._confirmed(future, oldest, deadline)
                size -= len(oldest.body)
                yield oldest
        for envelope, future in pending:
            self._confirmed(future, envelope, deadline)
            yield envelope

    def request(
        self, message: Message, *, deadline: float, routing_key: str = KEY_REQUEST
    ) -> Message:
        """Ask the collector, and return its reply.

        While it says that its database is away, it is asked again. Raises RequestError when it
        refuses, CollectorUnreachable when there is no answer within `deadline` seconds.
        """
        end = time.monotonic() + deadline
        while True:
            reply = self._ask(message, routing_key, deadline, max(end - time.monotonic(), 0.001))
            if not isinstance(reply, ErrorReply):
                return reply
            if not reply.temporary:
                raise RequestError(reply.message)
            if time.monotonic() + _RETRY_SECONDS >= end:
                raise CollectorUnreachable(reply.message)
            time.sleep(_RETRY_SECONDS)

    def subscribe(self, exchange: str, keys: Iterable[str], *, deadline: float) -> Subscription:
        """A queue of one's own, bound to `exchange` by `keys` when this returns."""
        subscription = Subscription(self._thread, exchange, tuple(keys))
        try:
            subscription.established.result(deadline)
        except TimeoutError as error:
            subscription.close()
            raise BrokerUnreachable(
                f"no subscription to {exchange} within {deadline:g} s{self._thread.trouble()}"
            ) from error
        return subscription

    def queue_depth(self, queue: str, *, deadline: float) -> QueueDepth | None:
        """How `queue` stands; None when there is no such queue. Declares nothing."""

        def ask(channel: Any, future: Future[QueueDepth | None]) -> None:
            channel.queue_declare(
                queue,
                passive=True,
                callback=lambda frame: settle(
                    future, QueueDepth(frame.method.message_count, frame.method.consumer_count)
                ),
            )

        try:
            return self._on_channel(ask, deadline, f"looking at queue {queue}")
        except ChannelClosedByBroker as error:
            if error.reply_code == _NOT_FOUND:
                return None
            raise TopologyError(f"queue {queue}: {error.reply_text}") from error

    def close(self) -> None:
        """Close the connection; what is under way fails. Can be called twice."""
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: Message, routing_key: str, deadline: float, left: float) -> Message:
        envelope = replace(
            pack(message, routing_key, expiration=left), correlation_id=uuid.uuid4().hex
        )
        future = self._publisher.request(WORK, envelope)
        try:
            return unpack(future.result(left))
        except TimeoutError as error:
            future.cancel()
            raise self._no_answer(message, deadline) from error
        except MessageError as error:
            raise RequestError(
                f"the collector's reply is not understood ({error}); "
                "is it of another version of datarun?"
            ) from error

    def _confirmed(self, future: Future[None], envelope: Envelope, deadline: float) -> None:
        try:
            future.result(deadline)
        except TimeoutError as error:
            future.cancel()
            raise PublishError(
                f"RabbitMQ at {self._thread.place} did not confirm the {envelope.type} message "
                f"within {deadline:g} s{self._thread.trouble()}"
            ) from error

    def _no_answer(self, message: Message, deadline: float) -> CollectorUnreachable:
        what = f"the collector did not answer the {message.TYPE} within {deadline:g} s"
        trouble = self._thread.trouble()
        if trouble:
            return CollectorUnreachable(what + trouble)
        depth = self.queue_depth(COLLECTOR_QUEUE, deadline=5)
        if depth is None:
            return CollectorUnreachable(f"{what}: its queue is missing; run `datarun broker setup`")
        if depth.consumers == 0:
            return CollectorUnreachable(
                f"{what}: no collector is connected to {self._thread.place}; "
                "is `datarun collector` (or `datarun up`) running?"
            )
        return CollectorUnreachable(
            f"{what}: it is connected, with {depth.messages} messages waiting; "
            "its log says what keeps it (its database, perhaps)"
        )

    def _on_channel(
        self, action: Callable[[Any, Future[T]], None], deadline: float, what: str
    ) -> T:
        """Run `action` on a channel of its own; again on another connection if one is lost."""
        end = time.monotonic() + deadline
        while True:
            self._thread.wait_connected(max(end - time.monotonic(), 0))
            future: Future[T] = Future()
            self._thread.submit(lambda: self._begin(action, future))  # noqa: B023
            try:
                return future.result(max(end - time.monotonic(), 0))
            except TimeoutError as error:
                raise BrokerUnreachable(
                    f"{what}: no answer within {deadline:g} s{self._thread.trouble()}"
                ) from error
            except ChannelClosedByBroker:
                raise
            except (AMQPError, BrokerUnreachable) as error:
                if time.monotonic() + _RETRY_SECONDS >= end:
                    raise BrokerUnreachable(f"{what}: {error}") from error
                time.sleep(_RETRY_SECONDS)

    def _begin(self, action: Callable[[Any, Future[T]], None], future: Future[T]) -> None:
        def run(channel: Any) -> None:
            future.add_done_callback(
                lambda _: channel.close() if channel.is_open else None,
            )
            action(channel, future)

        def failed(error: Any) -> None:
            if not isinstance(error, ChannelClosedByClient):
                settle(future, error)

        self._thread.on_channel(run, failed)
