"""A link comes back, confirms what it publishes, and delivers what is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pika import URLParameters

from broker.control import ControlStream
from broker.delivery import Delivery, ack_all
from broker.feed import Feed
from broker.link import Link
from broker.setup import declare_topology, queue_exists
from schemas.control import RunCancelled
from schemas.errors import BrokerUnreachable, PublishError, TopologyError
from schemas.frozen import Message
from schemas.messages import CancelMessage
from schemas.permissions import BrokerUser
from schemas.topology import (
    COLLECTOR_QUEUE,
    CONTROL,
    EVENTS,
    KEY_CANCEL,
    KEY_HEARTBEAT,
    KEY_NONCE,
    RESULTS,
    WORK,
    Binding,
    ClassicQueue,
    Exchange,
    QueueType,
    Topology,
    heartbeats_queue,
    topology,
)
from schemas.wire import Envelope, pack
from tests.support.rabbitmq import Vhost
from tests.support.tcp_proxy import TcpProxy

COLLECTOR, WORKER = BrokerUser.COLLECTOR, BrokerUser.WORKER
DEADLINE = 20


def cancel(number: int) -> Envelope:
    return pack(CancelMessage(submission_fold_ids=(number,)), KEY_CANCEL, message_id=str(number))


async def take(feed: Feed, count: int) -> list[Delivery]:
    async with asyncio.timeout(DEADLINE):
        return [await feed.next() for _ in range(count)]


def ids(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.envelope.message_id or -1) for delivery in deliveries]


def heartbeat(number: int) -> Envelope:
    return Envelope(b"{}", KEY_HEARTBEAT, message_id=str(number))


def run_cancelled(run_id: str) -> Envelope:
    message = RunCancelled(run_id=run_id, submission_fold_id=1, reason="x", at=datetime.now(UTC))
    return pack(message, "run")


async def test_what_is_published_is_delivered_with_its_properties(vhost: Vhost) -> None:
    # Given the shared topology, declared twice
    async with Link(vhost.logins.admin, name="tester") as administrator:
        await declare_topology(administrator, topology())
        await declare_topology(administrator, topology())
    async with Link(vhost.logins.of(COLLECTOR), name="tester") as link:
        # When a message is published
        sent = pack(CancelMessage(submission_fold_ids=(7,)), KEY_CANCEL, app_id="tester")
        await link.publish(WORK, sent)

        # Then it arrives as it was sent
        [delivery] = await take(link.feed(COLLECTOR_QUEUE, prefetch=10), 1)
        assert delivery.envelope.body == sent.body
        assert delivery.envelope.type == CancelMessage.TYPE
        assert delivery.envelope.message_id == sent.message_id
        assert delivery.envelope.app_id == "tester"
        assert delivery.envelope.exchange == WORK
        assert delivery.envelope.persistent
        assert not delivery.redelivered


async def test_a_message_that_no_queue_takes_is_an_error(declared: Vhost) -> None:
    async with Link(declared.logins.of(COLLECTOR), name="tester") as link:
        with pytest.raises(PublishError, match="no queue takes it"):
            await link.publish(RESULTS, cancel(1))
        with pytest.raises(PublishError, match="NOT_FOUND"):
            await link.publish(heartbeats_queue("nobody"), cancel(1))
        with pytest.raises(PublishError, match="ACCESS_REFUSED"):
            await link.publish(EVENTS, cancel(1))

        # And the link still works
        await link.publish(WORK, cancel(2))
        assert ids(await take(link.feed(COLLECTOR_QUEUE, prefetch=1), 1)) == [2]


async def test_a_thousand_pipelined_messages_arrive_in_order_and_are_acked_at_once(
    declared: Vhost,
) -> None:
    async with Link(declared.logins.of(COLLECTOR), name="tester") as link:
        await asyncio.gather(*(link.publish(WORK, cancel(number)) for number in range(1000)))

        feed = link.feed(COLLECTOR_QUEUE, prefetch=200)
        seen: list[int] = []
        async with asyncio.timeout(DEADLINE):
            while len(seen) < 1000:
                batch = await feed.batch(100, 0.05)
                assert len(batch) <= 100
                seen += ids(batch)
                await ack_all(batch)
        assert seen == list(range(1000))
        await feed.close()
        assert await depth(link) == 0


async def test_ack_all_leaves_an_older_delivery_that_is_still_held(declared: Vhost) -> None:
    async with Link(declared.logins.of(COLLECTOR), name="tester") as link:
        for number in range(4):
            await link.publish(WORK, cancel(number))
        feed = link.feed(COLLECTOR_QUEUE, prefetch=10)
        held, *others = await take(feed, 4)

        # When all but the oldest are acked, and the feed is closed
        await ack_all(others)
        await feed.close()

        # Then only the oldest comes back
        again = link.feed(COLLECTOR_QUEUE, prefetch=10)
        assert ids(await take(again, 1)) == ids([held])
        assert await depth(link) == 0


async def test_after_a_lost_connection_the_feed_goes_on_and_unacked_messages_come_again(
    declared: Vhost, proxy: Callable[[int], TcpProxy]
) -> None:
    line = proxy(declared.node.amqp_port)
    async with Link(declared.logins.through(line.port).of(COLLECTOR), name="tester") as link:
        # Given a delivery that is not settled
        await link.publish(WORK, cancel(1))
        feed = link.feed(COLLECTOR_QUEUE, prefetch=10)
        [first] = await take(feed, 1)

        # When the line is cut, and mended
        line.cut()
        waiting = asyncio.create_task(take(feed, 1))
        await until(lambda: not link.is_connected)
        line.mend()

        # Then the same message is delivered again, and the old handle settles nothing
        [second] = await waiting
        assert second.envelope.message_id == first.envelope.message_id
        assert second.redelivered
        assert not first.is_live
        assert await first.ack() is False
        assert await second.ack() is True


async def test_publishing_waits_out_a_lost_connection(
    declared: Vhost, proxy: Callable[[int], TcpProxy]
) -> None:
    line = proxy(declared.node.amqp_port)
    async with Link(declared.logins.through(line.port).of(COLLECTOR), name="tester") as link:
        line.cut()
        publishing = asyncio.create_task(link.publish(WORK, cancel(5)))
        await until(lambda: not link.is_connected)
        assert not publishing.done()

        line.mend()
        await asyncio.wait_for(publishing, DEADLINE)
        assert 5 in ids(await take(link.feed(COLLECTOR_QUEUE, prefetch=1), 1))


async def test_publishing_on_a_dead_line_ends_at_its_deadline(
    declared: Vhost, proxy: Callable[[int], TcpProxy]
) -> None:
    line = proxy(declared.node.amqp_port)
    async with Link(declared.logins.through(line.port).of(COLLECTOR), name="tester") as link:
        await link.publish(WORK, cancel(1))
        line.stall()
        with pytest.raises(PublishError, match=r"within 0\.5 seconds"):
            await link.publish(WORK, cancel(2), deadline=0.5)
        line.cut()


async def test_a_server_sent_cancel_is_a_reason_to_consume_again(declared: Vhost) -> None:
    own = ClassicQueue(heartbeats_queue("mine"), exclusive=True, durable=False)
    async with (
        Link(declared.logins.of(COLLECTOR), name="tester") as link,
        Link(declared.logins.of(WORKER), name="worker") as worker,
    ):
        # Given a collector that waits for heartbeats on a queue of its own
        binding = Binding(EVENTS, own.name, KEY_HEARTBEAT)
        feed = link.feed(own.name, prefetch=1, own=own, bindings=(binding,))
        waiting = asyncio.create_task(take(feed, 1))
        await publish_when_bound(worker, heartbeat(1))
        assert ids(await waiting) == [1]

        # When the queue is deleted under it
        waiting = asyncio.create_task(take(feed, 1))
        channel = await link.channel(confirms=False)
        await channel.queue_delete(own.name)

        # Then it declares and binds it again, and goes on
        await publish_when_bound(worker, heartbeat(2))
        assert ids(await waiting) == [2]


async def test_a_busy_feed_does_not_consume(declared: Vhost) -> None:
    async with Link(declared.logins.of(COLLECTOR), name="tester") as link:
        # Given two messages, and a feed of prefetch 1 that holds the first
        for number in range(2):
            await link.publish(WORK, cancel(number))
        feed = link.feed(COLLECTOR_QUEUE, prefetch=1)
        [first] = await take(feed, 1)

        # Then the second is not delivered until the first is settled
        assert await depth(link) == 1
        await first.ack()
        [second] = await take(feed, 1)
        assert ids([second]) == [1]


async def test_waiting_on_a_missing_queue_says_what_to_do(declared: Vhost) -> None:
    async with Link(declared.logins.of(WORKER), name="tester") as link:
        with pytest.raises(TopologyError, match="datarun broker setup"):
            await take(link.feed("datarun.folds.nobody", prefetch=1), 1)


async def test_setup_says_when_an_exchange_has_another_type(vhost: Vhost) -> None:
    async with Link(vhost.logins.admin, name="tester") as link:
        await declare_topology(link, Topology((Exchange(WORK, "fanout"),), (), ()))
        with pytest.raises(TopologyError, match=r"'datarun\.work' exists"):
            await declare_topology(link, topology())


async def test_setup_uses_an_existing_queue_as_it_stands(vhost: Vhost) -> None:
    # Given a queue of ours with other arguments
    plain = Topology((Exchange(WORK),), (ClassicQueue(COLLECTOR_QUEUE),), ())
    async with Link(vhost.logins.admin, name="tester") as administrator:
        await declare_topology(administrator, plain)
        assert await queue_exists(administrator, COLLECTOR_QUEUE)

        # When all is declared, then it serves
        await declare_topology(administrator, topology())
    async with Link(vhost.logins.of(COLLECTOR), name="tester") as link:
        await link.publish(WORK, cancel(3))
        assert ids(await take(link.feed(COLLECTOR_QUEUE, prefetch=1), 1)) == [3]


async def test_the_control_stream_is_read_from_its_beginning_and_followed(declared: Vhost) -> None:
    async with (
        Link(declared.logins.of(WORKER), name="worker") as link,
        Link(declared.logins.of(COLLECTOR), name="tester") as collector,
    ):
        # Given three messages, one of them not ours
        await collector.publish(CONTROL, run_cancelled("a"))
        await collector.publish(CONTROL, Envelope(b"not json", "run", type=RunCancelled.TYPE))
        await collector.publish(CONTROL, run_cancelled("b"))

        # When a reader catches up, it knows all of them
        seen: list[Message] = []
        control = ControlStream(link)
        await control.catch_up(seen.append, DEADLINE)
        assert [message.run_id for message in seen if isinstance(message, RunCancelled)] == [
            "a",
            "b",
        ]

        # And hears what comes afterwards, but for what a worker's key brings in
        await link.publish(EVENTS, Envelope(run_cancelled("forged").body, KEY_NONCE))
        await collector.publish(CONTROL, run_cancelled("c"))
        await until(lambda: len(seen) >= 3)
        assert isinstance(seen[2], RunCancelled)
        assert seen[2].run_id == "c"
        await control.close()


async def test_the_control_stream_goes_on_after_a_lost_connection(
    declared: Vhost, proxy: Callable[[int], TcpProxy]
) -> None:
    line = proxy(declared.node.amqp_port)
    async with (
        Link(declared.logins.through(line.port).of(WORKER), name="worker") as link,
        Link(declared.logins.of(COLLECTOR), name="tester") as collector,
    ):
        seen: list[Message] = []
        control = ControlStream(link)
        await control.catch_up(seen.append, DEADLINE)
        await collector.publish(CONTROL, run_cancelled("a"))
        await until(lambda: len(seen) == 1)

        line.reset()
        await collector.publish(CONTROL, run_cancelled("b"))
        await until(lambda: len(seen) == 2)

        # Not from the beginning again
        assert [getattr(message, "run_id", "") for message in seen] == ["a", "b"]
        await control.close()


async def test_quorum_queues_are_refused_on_a_server_that_is_too_old(vhost: Vhost) -> None:
    async with Link(vhost.logins.admin, name="tester") as link:
        if link.server.major >= 4:
            await declare_topology(link, topology(queue_type=QueueType.QUORUM))
            return
        with pytest.raises(Exception, match=r"needs RabbitMQ 4\.0 or later"):
            await declare_topology(link, topology(queue_type=QueueType.QUORUM))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda url: url.replace(":", ":x", 2).replace(":x//", "://", 1), "refused"),
        (lambda url: url + "-missing", "virtual host does not exist"),
    ],
)
async def test_a_refused_connection_says_why_at_once_and_never_the_password(
    vhost: Vhost, change: Callable[[str], str], sentence: str
) -> None:
    url = vhost.logins.of(WORKER)
    started = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=sentence) as caught:
        async with Link(change(url), name="tester", connect_timeout=DEADLINE):
            pass
    assert str(URLParameters(url).credentials.password) not in str(caught.value)
    assert time.monotonic() - started < DEADLINE


async def depth(link: Link) -> int:
    channel = await link.channel(confirms=False)
    declared = await channel.queue_declare(COLLECTOR_QUEUE, passive=True)
    await channel.close()
    return declared.message_count or 0


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not seen():
            await asyncio.sleep(0.02)


async def publish_when_bound(link: Link, envelope: Envelope) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await link.publish(EVENTS, envelope)
                return
            except PublishError:
                await asyncio.sleep(0.02)
