"""Reading the control stream: everything so far, then whatever comes."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

from broker.link import Link
from schemas.control import ControlNonce
from schemas.errors import BrokerUnreachable, MessageError
from schemas.frozen import Message
from schemas.topology import CONTROL_STREAM, EVENTS, KEY_NONCE
from schemas.wire import pack, unpack

logger = logging.getLogger(__name__)

_PREFETCH = 200


class ControlStream:
    """`datarun.control`, read from its first message.

    An empty stream delivers nothing for ever, and "last" returns a whole chunk; so a reader
    publishes a nonce of its own, and is up to date when it comes to it.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._feed = link.feed(CONTROL_STREAM, prefetch=_PREFETCH, stream_offset="first")
        self._nonce = uuid.uuid4().hex
        self._reader: asyncio.Task[None] | None = None
        self._up_to_date = asyncio.Event()

    async def catch_up(self, receive: Callable[[Message], None], deadline: float) -> None:
        """Call `receive` for each message so far, in order; then return and go on in a task.

        Raises BrokerUnreachable when that takes longer than `deadline` seconds.
        """
        try:
            async with asyncio.timeout(deadline):
                nonce = pack(ControlNonce(nonce=self._nonce), KEY_NONCE, app_id=self._link.name)
                await self._link.publish(EVENTS, nonce)
                self._reader = asyncio.create_task(self._read(receive), name="control-stream")
                waiter = asyncio.create_task(self._up_to_date.wait())
                await asyncio.wait({self._reader, waiter}, return_when=asyncio.FIRST_COMPLETED)
                if self._reader.done():
                    waiter.cancel()
                    self._reader.result()
        except TimeoutError as error:
            raise BrokerUnreachable(
                f"the control stream was not read to its end within {deadline} seconds"
            ) from error

    @property
    def reading(self) -> asyncio.Task[None]:
        """Goes on until `close`; ends before only by an error, and then nothing more is heard."""
        assert self._reader is not None, "catch_up comes first"
        return self._reader

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._feed.close()

    async def _read(self, receive: Callable[[Message], None]) -> None:
        while True:
            delivery = await self._feed.next()
            try:
                message = unpack(delivery.envelope)
            except MessageError as error:
                logger.warning(
                    "control message ignored",
                    extra={"action": "control_ignored", "reason": str(error)},
                )
            else:
                # A nonce is taken only from its own key: workers may write no other to EVENTS.
                if isinstance(message, ControlNonce):
                    if message.nonce == self._nonce:
                        self._up_to_date.set()
                elif delivery.envelope.exchange != EVENTS:
                    receive(message)
            await delivery.ack()
