"""One aio-pika connection that comes back: confirmed publishing, feeds."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType

import aio_pika
import aiormq
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
)
from pamqp.commands import Basic
from yarl import URL

from broker import metrics
from broker.addresses import shown, why_unreachable
from broker.delivery import LOST, AmqpChannel
from broker.feed import Feed
from broker.frame_reader import read_in_chunks
from broker.tls import secured, tls_trouble
from broker.unreadable import read_as_missing
from schemas.errors import BrokerUnreachable, PublishError
from schemas.topology import Binding, ClassicQueue, ServerVersion
from schemas.wire import Envelope

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
_REFUSED = (ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed)


class Link:
    """A connection to RabbitMQ for a service; use as `async with Link(url, name="worker-1")`.

    After a lost connection it connects again, for ever, with growing pauses; publishing waits
    for it. Entering raises BrokerUnreachable when there is no connection within
    `connect_timeout` seconds. Raises ConfigurationError when a file for TLS cannot be used.
    """

    server: ServerVersion

    def __init__(self, url: str, *, name: str, connect_timeout: float = 30.0) -> None:
        self._url, self._tls = secured(url)
        self.name = name
        self._connect_timeout = connect_timeout
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._publisher: AmqpChannel | None = None
        self._publisher_lock = asyncio.Lock()
        self._supervisor: asyncio.Task[None] | None = None
        self._closed = False
        read_as_missing()
        read_in_chunks()

    async def __aenter__(self) -> Link:
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._connect_with_patience()
        except TimeoutError as error:
            raise BrokerUnreachable(why_unreachable(self._url, error.__cause__ or error)) from error
        self._supervisor = asyncio.create_task(self._supervise(), name="link-supervisor")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; nothing is published or delivered any more."""
        self._closed = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self._connected.set()
        if self._connection is not None:
            await self._connection.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._connected.is_set() and not self._closed

    async def publish(
        self, exchange: str, envelope: Envelope, *, deadline: float | None = None
    ) -> None:
        """Publish, confirmed, and mandatory but through the default exchange, where replies go.

        Returns once RabbitMQ has taken responsibility.

        When the confirm does not come because the connection is lost, it publishes again with
        the same message_id: at least once, never silently not at all. Raises PublishError when
        the message is returned or refused, or not confirmed within `deadline` seconds.
        """
        try:
            async with asyncio.timeout(deadline):
                while not await self.publish_once(exchange, envelope):
                    await self.pause()
        except TimeoutError as error:
            raise PublishError(
                f"RabbitMQ at {shown(self._url)} did not confirm a message to {exchange!r} "
                f"within {deadline} seconds; it may or may not have arrived"
            ) from error

    def feed(
        self,
        queue: str,
        *,
        prefetch: int,
        own: ClassicQueue | None = None,
        bindings: tuple[Binding, ...] = (),
        stream_offset: str | int | None = None,
    ) -> Feed:
        """Pull deliveries from `queue`.

        own: the queue belongs to this feed, which declares and binds it at each subscription.
        stream_offset: where to begin to read a stream; after a reconnect it goes on behind the
        last delivery.
        """
        return Feed(
            self,
            queue,
            prefetch=prefetch,
            own=own,
            bindings=bindings,
            stream_offset=stream_offset,
        )

    async def channel(self, *, confirms: bool) -> AmqpChannel:
        """A new channel of the current connection; waits for one."""
        while True:
            await self._connected.wait()
            if self._closed or self._connection is None:
                raise BrokerUnreachable(f"the connection to {shown(self._url)} is closed")
            try:
                channel = self._connection.channel(
                    publisher_confirms=confirms, on_return_raises=confirms
                )
                await channel.initialize()
                underlay = await channel.get_underlay_channel()
                assert isinstance(underlay, aiormq.Channel)
                return underlay
            except (*LOST, RuntimeError):
                await self.pause()

    async def pause(self) -> None:
        """Let a lost connection be noticed before the next try."""
        if self._closed:
            raise BrokerUnreachable(f"the connection to {shown(self._url)} is closed")
        await asyncio.sleep(FIRST_PAUSE)
        await self._connected.wait()

    async def publish_once(self, exchange: str, envelope: Envelope) -> bool:
        """As `publish`, but with one try; False when the connection was lost before the confirm."""
        try:
            channel = await self._publishing_channel()
            await channel.basic_publish(
                envelope.body,
                exchange=exchange,
                routing_key=envelope.routing_key,
                properties=_properties(envelope),
                # A reply may find nobody waiting any more. And RabbitMQ 3.10 returns mandatory
                # messages to a direct reply-to always, even though it delivers them.
                mandatory=exchange != "",
                # The confirm is waited for, which comes after all that: to wait until the socket
                # has taken it, too, holds up those who publish at the same time.
                wait=False,
            )
        except DeliveryError as error:
            raise PublishError(
                f"RabbitMQ returned a message to exchange {exchange!r} with key "
                f"{envelope.routing_key!r}: no queue takes it. Run `datarun broker setup`"
            ) from error
        except _REFUSED as error:
            raise PublishError(f"RabbitMQ refused a message to {exchange!r}: {error}") from error
        except LOST as error:
            logger.warning(
                "no confirm",
                extra={"action": "no_confirm", "exchange": exchange, "reason": repr(error)},
            )
            return False
        return True

    async def _publishing_channel(self) -> AmqpChannel:
        if self._publisher is None or self._publisher.is_closed:
            async with self._publisher_lock:
                if self._publisher is None or self._publisher.is_closed:
                    self._publisher = await self.channel(confirms=True)
        return self._publisher

    async def _supervise(self) -> None:
        while True:
            await self._lost.wait()
            logger.warning(
                "connection lost",
                extra={
                    "action": "connection_lost",
                    "broker": shown(self._url),
                    "connection": self.name,
                },
            )
            await self._connect_with_patience()
            metrics.RECONNECTS.inc()
            logger.info("connected again", extra={"action": "reconnected", "connection": self.name})

    async def _connect_with_patience(self) -> None:
        pause = FIRST_PAUSE
        cause: BaseException | None = None
        try:
            while True:
                try:
                    await self._connect()
                    return
                except (*LOST, TimeoutError) as error:
                    cause = error
                    if _is_final(error) and self._supervisor is None:
                        raise BrokerUnreachable(why_unreachable(self._url, error)) from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        except asyncio.CancelledError:
            # The deadline of __aenter__: what it reports is why there was no connection.
            if self._supervisor is None and cause is not None:
                raise BrokerUnreachable(why_unreachable(self._url, cause)) from cause
            raise

    async def _connect(self) -> None:
        url = URL(self._url)
        if "heartbeat" not in url.query:
            url = url.update_query(heartbeat=HEARTBEAT_SECONDS)
        connection = await aio_pika.connect(
            url,
            ssl_context=self._tls,
            client_properties={"connection_name": self.name},
            timeout=self._connect_timeout,
        )
        transport = connection.transport
        assert transport is not None
        version = transport.connection.server_properties["version"]
        self.server = ServerVersion.parse(str(version))
        self._connection = connection
        self._lost.clear()
        self._connected.set()
        metrics.CONNECTIONS.inc()
        connection.close_callbacks.add(self._on_close)
        if transport.connection.is_closed:
            self._on_close(connection)

    def _on_close(self, connection: object, *_: object) -> None:
        # aio-pika's `closed()` resolves only when we close; a lost connection calls back here.
        # Once: one that is lost while it is made is told of twice.
        if connection is self._connection and self._connected.is_set():
            self._connected.clear()
            self._lost.set()
            metrics.CONNECTIONS.dec()


def _is_final(error: BaseException) -> bool:
    """Whether trying again soon cannot help: wrong user, password, virtual host or TLS."""
    refused = (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ConnectionNotAllowed)
    if isinstance(error, (*refused, aiormq.exceptions.ProbableAuthenticationError)):
        return True
    if tls_trouble(error) is not None:
        return True
    return "NOT_ALLOWED" in str(error) or "Connection.OpenOk" in str(error)


def _properties(envelope: Envelope) -> Basic.Properties:
    expiration = envelope.expiration
    return Basic.Properties(
        content_type="application/json",
        headers=dict(envelope.headers),
        delivery_mode=2 if envelope.persistent else 1,
        priority=envelope.priority,
        correlation_id=envelope.correlation_id,
        reply_to=envelope.reply_to,
        expiration=str(int(expiration * 1000)) if expiration is not None else None,
        message_id=envelope.message_id,
        timestamp=envelope.timestamp,
        message_type=envelope.type,
        app_id=envelope.app_id,
    )
