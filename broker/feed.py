"""Deliveries pulled from one queue, through lost channels and server-sent cancels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from broker.delivery import LOST, AmqpChannel, Delivery, Gathering, Subscription
from schemas.errors import AccessRefused, TopologyError
from schemas.topology import Binding, ClassicQueue

if TYPE_CHECKING:
    from broker.link import Link


class Feed:
    """Pulls deliveries from one queue.

    It subscribes when somebody waits in `next` or `batch`, and again after a lost channel or a
    server-sent `basic.cancel`; so a slot that is busy does not consume, also after a reconnect.
    """

    def __init__(
        self,
        link: Link,
        queue: str,
        *,
        prefetch: int,
        own: ClassicQueue | None = None,
        bindings: tuple[Binding, ...] = (),
        stream_offset: str | int | None = None,
    ) -> None:
        self._link = link
        self._queue = queue
        self._prefetch = prefetch
        self._own = own
        self._bindings = bindings
        self._stream_offset = stream_offset
        self._subscription: Subscription | None = None
        self.is_served = False
        """Whether the last subscription has brought something: of a queue with a single active
        consumer, only that one's does."""

    async def next(self) -> Delivery:
        """The next delivery; waits for one.

        Raises TopologyError when the queue does not exist, BrokerUnreachable when the link is
        closed, AccessRefused when this user may not read it. Safe to cancel: a delivery that was
        not returned stays for the next call.
        """
        while True:
            subscription = await self._subscribed()
            delivery = await subscription.arrived.get()
            if delivery is None:
                self._subscription = None
                continue
            if subscription.is_live:
                self._advance(delivery)
                return delivery

    async def batch(
        self, most: int, linger: float, *, patience: Callable[[Delivery], float] | None = None
    ) -> list[Delivery]:
        """At least one delivery, and up to `most` of those that come within `linger` seconds.

        patience: how many seconds the batch may still wait once this delivery is in it, if that is
        less than `linger` allows; with 0, only what has arrived already is added.
        """
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.next()]
            end = loop.time() + linger
            if patience is not None:
                end = min(end, loop.time() + patience(batch[0]))
            while len(batch) < most and (subscription := self._subscription) is not None:
                if subscription.arrived.empty():
                    if loop.time() >= end:
                        break
                    end = await subscription.gather(Gathering(most - len(batch), end, patience))
                    continue
                delivery = subscription.arrived.get_nowait()
                if delivery is None:
                    self._subscription = None
                    break
                if patience is not None:
                    end = min(end, loop.time() + patience(delivery))
                self._advance(delivery)
                batch.append(delivery)
            live = [delivery for delivery in batch if delivery.is_live]
            if live:
                return live

    async def close(self) -> None:
        """Stop consuming. What is delivered and not settled goes back to the queue."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and subscription.is_live:
            try:
                await subscription.channel.close()
            except LOST:
                return

    def _advance(self, delivery: Delivery) -> None:
        self.is_served = True
        if delivery.stream_offset is not None:
            self._stream_offset = delivery.stream_offset + 1

    async def _subscribed(self) -> Subscription:
        while self._subscription is None:
            self.is_served = False
            channel = await self._link.channel(confirms=False)
            try:
                self._subscription = await self._subscribe(channel)
            except ChannelNotFoundEntity as error:
                if is_coming_back(error):
                    await self._link.pause()
                    continue
                raise TopologyError(
                    f"queue {self._queue!r} does not exist: run `datarun broker setup`"
                ) from error
            except ChannelAccessRefused as error:
                raise AccessRefused(
                    f"{error}. Each service logs in to RabbitMQ as a user of its own, whose "
                    "rights `datarun broker users` sets"
                ) from error
            except LOST:
                await self._link.pause()
        return self._subscription

    async def _subscribe(self, channel: AmqpChannel) -> Subscription:
        queue = self._queue
        if self._own is not None:
            declared = await channel.queue_declare(
                self._own.name,
                durable=self._own.durable,
                exclusive=self._own.exclusive,
                arguments=dict(self._own.arguments(self._link.server)),
            )
            queue = declared.queue or queue
            for binding in self._bindings:
                await channel.queue_bind(queue, binding.exchange, routing_key=binding.key)
        await channel.basic_qos(prefetch_count=self._prefetch)
        subscription = Subscription(channel, f"{self._link.name}.{id(channel):x}")
        channel.on_consumer_cancel_callbacks.add(subscription.end)
        channel.closing.add_done_callback(subscription.end)
        arguments: dict[str, Any] = {}
        if self._stream_offset is not None:
            arguments["x-stream-offset"] = self._stream_offset
        await channel.basic_consume(
            queue,
            subscription.receive,
            consumer_tag=subscription.tag,
            arguments=arguments,
        )
        return subscription


def is_coming_back(error: ChannelNotFoundEntity) -> bool:
    """Whether the queue exists and only its process does not: a stream whose node has just started.

    The node takes connections before its streams run (3.10: half a second before), and answers 404
    "home node ... of durable queue ... is down or inaccessible" until they do.
    """
    return "down or inaccessible" in str(error)
