"""Declaring the shared topology; only `datarun broker setup` and `up` do this."""

from __future__ import annotations

import logging

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from broker.delivery import AmqpChannel
from broker.feed import is_coming_back
from broker.link import Link
from schemas.errors import AccessRefused, TopologyError
from schemas.topology import Exchange, Queue, Topology

logger = logging.getLogger(__name__)


async def declare_topology(link: Link, topology: Topology) -> None:
    """Declare exchanges, queues and bindings for the server's version.

    A queue that exists is used as it stands, whatever its arguments: they cannot be changed, and
    it may hold messages. Raises TopologyError when an exchange exists with another type, and
    ConfigurationError when the server is too old for the queue type; AccessRefused when this user
    may not declare them.
    """
    try:
        await _declare(link, topology)
    except ChannelAccessRefused as error:
        raise AccessRefused(
            f"{error}. What is shared is declared by an administrator: `datarun broker setup` "
            "wants his login"
        ) from error


async def _declare(link: Link, topology: Topology) -> None:
    for exchange in topology.exchanges:
        await _declare_exchange(link, exchange)
    for queue in topology.queues:
        if not await queue_exists(link, queue.name):
            await _declare_queue(link, queue)
    channel = await link.channel(confirms=False)
    for binding in topology.bindings:
        await channel.queue_bind(binding.queue, binding.exchange, routing_key=binding.key)
    await channel.close()


async def queue_exists(link: Link, name: str) -> bool:
    """Whether the queue is there, by a passive declare; waits for one that is just coming back."""
    while True:
        channel = await link.channel(confirms=False)
        try:
            await channel.queue_declare(name, passive=True)
        except ChannelNotFoundEntity as error:
            if not is_coming_back(error):
                return False
            await link.pause()
            continue
        await channel.close()
        return True


async def _declare_exchange(link: Link, exchange: Exchange) -> None:
    channel = await link.channel(confirms=False)
    try:
        await channel.exchange_declare(exchange.name, exchange_type=exchange.type, durable=True)
    except ChannelPreconditionFailed as error:
        raise TopologyError(
            f"exchange {exchange.name!r} exists and is not a durable {exchange.type} exchange: "
            "delete it in the management console, or use another virtual host"
        ) from error
    await channel.close()


async def _declare_queue(link: Link, queue: Queue) -> None:
    channel: AmqpChannel = await link.channel(confirms=False)
    arguments = queue.arguments(link.server)
    try:
        await channel.queue_declare(queue.name, durable=queue.durable, arguments=dict(arguments))
    except ChannelPreconditionFailed as error:
        # Somebody declared it between our look and our declare: used as it stands, too.
        if not await queue_exists(link, queue.name):
            raise TopologyError(f"queue {queue.name!r} cannot be declared: {error}") from error
        return
    logger.info("queue declared", extra={"action": "queue_declared", "queue": queue.name})
    await channel.close()
