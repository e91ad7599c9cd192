"""Replies to requests, on a connection of their own, which a forged reply address may cost."""

from __future__ import annotations

import asyncio
import logging

from broker.link import Link
from schemas.errors import MessageError, PublishError
from schemas.frozen import Message
from schemas.requests import ErrorReply
from schemas.wire import Envelope, pack

logger = logging.getLogger(__name__)

REPLY_SECONDS = 10.0


class Replies:
    """Sends replies while the collector goes on.

    RabbitMQ 3.10 takes apart what follows `amq.rabbitmq.reply-to.`, and ends the connection that
    publishes to such an address when it did not make it itself. Whoever asks names the address: so
    nothing else is on this connection, and what was lost with it is sent once more, alone.
    """

    def __init__(self, link: Link) -> None:
        """link: used for nothing else."""
        self._link = link
        self._alone = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, envelope: Envelope, message: Message) -> None:
        """Reply with `message` to the request in `envelope`, soon."""
        task = asyncio.create_task(self._send(envelope, message), name="reply")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Return when all are sent."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Give up what is not sent yet."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, envelope: Envelope, message: Message) -> None:
        to = envelope.reply_to or ""
        try:
            reply = pack(message, to, correlation_id=envelope.correlation_id, persistent=False)
        except MessageError as error:
            refusal = ErrorReply(message=f"the reply does not fit into a message: {error}")
            reply = pack(refusal, to, correlation_id=envelope.correlation_id, persistent=False)
        reason = "the connection was lost twice"
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                if await self._link.publish_once("", reply):
                    return
                async with self._alone:
                    if await self._link.publish_once("", reply):
                        return
        except (PublishError, TimeoutError) as error:
            reason = str(error) or f"not sent within {REPLY_SECONDS} seconds"
        logger.info(
            "nobody waits for a reply any more",
            extra={"action": "reply_unwanted", "reply_to": to, "reason": reason},
        )
