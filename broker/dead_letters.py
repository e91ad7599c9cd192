"""Dead letters: looked at without being taken, sent again once mended, or thrown away."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import pika

from broker.properties import from_pika, to_pika
from broker.session import ConnectionLost, Session
from schemas.errors import (
    AccessRefused,
    BrokerError,
    BrokerUnreachable,
    MessageError,
    PublishError,
    TopologyError,
)
from schemas.messages import FoldMessage
from schemas.topology import (
    DEAD_LETTERS_QUEUE,
    KEY_ACKNOWLEDGE,
    KEY_CANCEL,
    KEY_DATA,
    KEY_UPLOAD,
    REASON_HEADER,
    REPLAYED_HEADER,
    SOURCE_HEADER,
    WORK,
)
from schemas.wire import Envelope, unpack

_KEYS = {KEY_DATA, KEY_ACKNOWLEDGE, KEY_CANCEL, KEY_UPLOAD}
_REFUSED, _NOT_FOUND = 403, 404


@dataclass(frozen=True)
class DeadLetter:
    """One of them, and the tag of the delivery that shows it."""

    envelope: Envelope
    tag: int

    @property
    def id(self) -> str:
        """The message_id that it had; without one, a digest of its body."""
        return self.envelope.run_id

    @property
    def reason(self) -> str:
        """Why it is here."""
        return str(self.envelope.headers.get(REASON_HEADER, "no reason was given"))

    @property
    def source(self) -> str:
        """The routing key that it was published with."""
        return str(self.envelope.headers.get(SOURCE_HEADER, self.envelope.routing_key))

    def replayed(
        self, body: bytes | None = None, *, key: str | None = None, force: bool = False
    ) -> Envelope:
        """The message to be published in its place: with its routing key and its priority.

        Its id is another one, since what had the former id has its verdict already; it follows from
        the letter, so that one that is replayed twice counts once. body, key: the mended ones.
        force: run a fold again that has a verdict. Raises MessageError when it would come straight
        back.
        """
        key = self.source if key is None else key
        if key not in _KEYS and not key.startswith("folds."):
            raise MessageError(
                f"no worker reads messages with routing key {key[:80]!r}; if it was mistyped, name "
                "another: data, folds.<pool>, acknowledge or cancel"
            )
        envelope = replace(
            self.envelope,
            routing_key=key,
            exchange="",
            # What was mended is what its routing key says, whatever it said itself.
            type=self.envelope.type if body is None else None,
            body=self.envelope.body if body is None else body,
            user_id=None,
            reply_to=None,
            headers={REPLAYED_HEADER: self.id},
            persistent=True,
        )
        message = unpack(envelope)
        if isinstance(message, FoldMessage):
            if force:
                content = json.loads(envelope.body) | {"force": True}
                envelope = replace(envelope, body=json.dumps(content).encode())
            if envelope.priority is None:
                envelope = replace(envelope, priority=message.priority.level)
        elif force:
            raise MessageError("force is for folds alone")
        digest = uuid.uuid5(uuid.NAMESPACE_OID, self.id + envelope.body.decode())
        return replace(envelope, message_id=digest.hex)


class DeadLetters:
    """The queue of dead letters, for one thread; whatever is not settled stays in it.

    They are delivered and not acknowledged: RabbitMQ puts them back where they were when this is
    closed, also when the process dies. Meanwhile nobody else sees them.
    """

    def __init__(self, url: str, timeout: float = 15) -> None:
        """Connect. Raises BrokerUnreachable. timeout: seconds for each answer of RabbitMQ."""
        self._timeout = timeout
        self._got: list[tuple[Any, Any, bytes]] = []
        self._empty: list[Any] = []
        self._settled: list[Any] = []
        self._returned: list[Any] = []
        self._session = Session(url, "datarun dead-letters", timeout)
        channel = self._session.channel
        channel.add_callback(self._empty.append, [pika.spec.Basic.GetEmpty], one_shot=False)
        channel.add_on_return_callback(lambda _, method, *__: self._returned.append(method))
        ready: list[Any] = []
        channel.confirm_delivery(self._settled.append, callback=ready.append)
        self._await(lambda: bool(ready))

    def letters(self) -> Iterator[DeadLetter]:
        """All of them, the oldest first; each is read when it is asked for.

        Raises TopologyError when there is no such queue, AccessRefused when this user may not
        read it.
        """
        while True:
            self._got.clear()
            self._empty.clear()
            self._session.channel.basic_get(
                DEAD_LETTERS_QUEUE, lambda _, *delivery: self._got.append(delivery)
            )
            self._await(lambda: bool(self._got or self._empty))
            if not self._got:
                return
            method, properties, body = self._got[0]
            yield DeadLetter(from_pika(method, properties, body), method.delivery_tag)

    def replay(self, letter: DeadLetter, envelope: Envelope) -> None:
        """Publish `envelope`, and take the letter out once that is confirmed. Raises BrokerError.

        A letter whose message went out and that stayed, since the connection was lost in between,
        may be replayed again.
        """
        self._settled.clear()
        self._returned.clear()
        self._session.channel.basic_publish(
            WORK, envelope.routing_key, envelope.body, to_pika(envelope), mandatory=True
        )
        self._await(lambda: bool(self._settled))
        if self._returned or not isinstance(self._settled[0].method, pika.spec.Basic.Ack):
            raise PublishError(
                f"no queue takes messages with key {envelope.routing_key!r}: the dead letter stays"
            )
        try:
            self.discard(letter)
        except BrokerError as error:
            raise BrokerError(
                f"the message is sent again, but its dead letter may have stayed: {error}. "
                "Replayed twice, it counts once"
            ) from error

    def discard(self, letter: DeadLetter) -> None:
        """Take the letter out. Raises BrokerError when it is unknown whether it is gone."""
        self._session.channel.basic_ack(letter.tag)
        # Nothing answers an ack. A channel's methods are done in their order, so what answers the
        # next one says that the ack has arrived, too; it needs no right, and does nothing here.
        # https://www.rabbitmq.com/amqp-0-9-1-reference#basic.qos
        done: list[Any] = []
        self._session.channel.basic_qos(prefetch_count=0, callback=done.append)
        self._await(lambda: bool(done))

    def close(self) -> None:
        """Put back what is not settled."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await(self, condition: Any) -> None:
        try:
            if not self._session.wait(condition, self._timeout):
                raise BrokerUnreachable(f"RabbitMQ did not answer within {self._timeout:g} s")
        except ConnectionLost as error:
            if error.reply_code == _NOT_FOUND:
                raise TopologyError(
                    "there is no queue of dead letters; `datarun broker setup` declares it"
                ) from error
            if error.reply_code == _REFUSED:
                raise AccessRefused(
                    f"this RabbitMQ user may not look after dead letters: {error}"
                ) from error
            raise
