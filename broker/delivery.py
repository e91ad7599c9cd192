"""What one subscription receives: deliveries, how they are settled, waiting for several of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import aiormq
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from pamqp.commands import Basic

from schemas.wire import Envelope

AmqpChannel = aiormq.Channel
LOST = (AMQPError, ChannelInvalidStateError, ConnectionError, OSError)
"""What aiormq raises when the channel or the connection is gone."""


class Subscription:
    """One `basic.consume` on one channel; dead for ever once either is gone."""

    def __init__(self, channel: AmqpChannel, tag: str) -> None:
        self.channel = channel
        self.tag = tag
        self.arrived: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self.unsettled: set[int] = set()
        self._gathering: Gathering | None = None

    @property
    def is_live(self) -> bool:
        """Whether its deliveries can still be settled."""
        return not self.channel.is_closed

    def end(self, *_: object) -> None:
        """No further delivery comes; wakes whoever waits for one."""
        self.arrived.put_nowait(None)
        if self._gathering is not None:
            self._gathering.stop()

    async def gather(self, gathering: Gathering) -> float:
        """Wait for what comes; returns when it was, or would have been, over."""
        self._gathering = gathering
        try:
            await gathering.over
        finally:
            self._gathering = None
            gathering.stop()
        return gathering.end

    async def receive(self, message: DeliveredMessage) -> None:
        """aiormq's consumer callback."""
        delivery = Delivery(message, self)
        self.unsettled.add(delivery.tag)
        self.arrived.put_nowait(delivery)
        if self._gathering is not None:
            self._gathering.add(delivery)


class Delivery:
    """A message as it was delivered: the envelope, and the handle to settle it.

    Settling returns False when the channel is gone: the broker has taken the message back and
    delivers it again. True proves nothing either, and is not waited for until the socket has taken
    it; only the collector decides what counts.
    """

    __slots__ = ("_subscription", "envelope", "redelivered", "stream_offset", "tag")

    def __init__(self, message: DeliveredMessage, subscription: Subscription) -> None:
        frame = message.delivery
        assert isinstance(frame, Basic.Deliver)
        self.envelope = _envelope(message)
        self.redelivered = bool(frame.redelivered)
        self.tag: int = frame.delivery_tag or 0
        offset = self.envelope.headers.get("x-stream-offset")
        self.stream_offset = offset if isinstance(offset, int) else None
        self._subscription = subscription

    @property
    def is_live(self) -> bool:
        """Whether it can still be settled."""
        return self._subscription.is_live

    async def ack(self) -> bool:
        """Done with it."""
        return await self._settle(Basic.Ack(delivery_tag=self.tag))

    async def reject(self, *, requeue: bool) -> bool:
        """Back to its queue, or to the dead letters.

        `basic.reject`, never `nack`: quorum queues count nacks against their delivery limit.
        """
        return await self._settle(Basic.Reject(delivery_tag=self.tag, requeue=requeue))

    async def _settle(self, frame: Basic.Ack | Basic.Reject) -> bool:
        self._subscription.unsettled.discard(self.tag)
        channel = self._subscription.channel
        if channel.is_closed:
            return False
        try:
            if isinstance(frame, Basic.Ack):
                await channel.basic_ack(self.tag, wait=False)
            else:
                await channel.basic_reject(self.tag, requeue=bool(frame.requeue), wait=False)
        except LOST:
            return False
        return True


async def ack_all(deliveries: Iterable[Delivery]) -> None:
    """Ack many with as few frames as possible; those of lost channels are delivered again."""
    by_subscription: dict[Subscription, list[Delivery]] = {}
    for delivery in deliveries:
        by_subscription.setdefault(delivery._subscription, []).append(delivery)
    for subscription, own in by_subscription.items():
        tags = {delivery.tag for delivery in own}
        last = max(tags)
        held_back = {tag for tag in subscription.unsettled - tags if tag < last}
        if held_back:
            for delivery in own:
                await delivery.ack()
            continue
        subscription.unsettled -= tags
        try:
            # Without waiting until it is sent: nothing depends on that, and what is sent next
            # comes after it.
            await subscription.channel.basic_ack(last, multiple=True, wait=False)
        except LOST:
            continue


class Gathering:
    """A wait for company: until `most` deliveries have come, or the time is over.

    They are looked at as they come, in place of waking whoever waits for each of them.
    """

    def __init__(self, most: int, end: float, patience: Callable[[Delivery], float] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = most
        self._patience = patience
        self.end = end
        """On the loop's clock; a delivery with little patience brings it forward."""

        self.over: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_at(end, self.stop)

    def add(self, delivery: Delivery) -> None:
        """One has come."""
        self._left -= 1
        if self._left == 0:
            self.stop()
        elif self._patience is not None:
            end = self._loop.time() + self._patience(delivery)
            if end < self.end:
                self.end = end
                self._timer.cancel()
                self._timer = self._loop.call_at(end, self.stop)

    def stop(self) -> None:
        """Nobody is waited for any more."""
        self._timer.cancel()
        if not self.over.done():
            self.over.set_result(None)


def _envelope(message: DeliveredMessage) -> Envelope:
    properties = message.header.properties
    return Envelope(
        body=message.body,
        routing_key=message.routing_key or "",
        exchange=message.exchange or "",
        type=properties.message_type,
        message_id=properties.message_id,
        priority=properties.priority,
        timestamp=properties.timestamp,
        app_id=properties.app_id,
        user_id=properties.user_id,
        reply_to=properties.reply_to,
        correlation_id=properties.correlation_id,
        headers=properties.headers or {},
        persistent=properties.delivery_mode == 2,
    )
