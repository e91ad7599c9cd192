"""Exchanges, queues and bindings as data; arguments computed for a server version.

Arguments are typed per queue type, so that a combination RabbitMQ refuses cannot be written.
Versions and behaviours: measured on RabbitMQ 3.10, 4.0 and 4.3 (docs/decisions).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from schemas.errors import ConfigurationError
from schemas.states import Visibility

Arguments = dict[str, int | str | bool]

WORK = "datarun.work"
EVENTS = "datarun.events"
RESULTS = "datarun.results"
CONTROL = "datarun.control"
WAITING = "datarun.waiting"
DEAD = "datarun.dead"

DATA_QUEUE = "datarun.data"
COLLECTOR_QUEUE = "datarun.collector"
CONTROL_STREAM = "datarun.control"
DEAD_LETTERS_QUEUE = "datarun.dead-letters"

KEY_DATA = "data"
KEY_ACKNOWLEDGE = "acknowledge"
KEY_CANCEL = "cancel"
KEY_UPLOAD = "upload"
KEY_REQUEST = "request"
KEY_HEARTBEAT = "heartbeat"
KEY_NONCE = "nonce"

REASON_HEADER = "datarun-reason"
"""Why a message is in the dead letters."""

SOURCE_HEADER = "datarun-source"
"""The routing key with which a dead letter was first published; replay uses it."""

REPLAYED_HEADER = "datarun-replayed"
"""The id of the dead letter in whose place a message was published."""

DEADLINE_HEADER = "datarun-deadline"
"""Unix time after which a fold no longer waits for its data set."""

CHUNK_HEADER = "datarun-chunk"
"""Number of a blob's chunk, from 0; its last message, the trailer, has none."""

ATTEMPT_HEADER = "datarun-attempt"
"""How many prepare workers have begun with a data set; set when it is delivered again."""

ACCEPTED_HEADER = "datarun-accepted"
"""On what the gateway accepted: its row was written before the message was published."""

UNREADABLE_HEADERS = "datarun-unreadable"
"""Stands in the place of headers that cannot be read."""

WAITING_TTL_MS = 2_000
MAX_PRIORITY = 5
MOST_DEAD_LETTERS = 100_000
MOST_DEAD_LETTER_BYTES = 4 << 30
"""The queue is on disk; somebody who publishes nonsense shall not fill that."""

SERVER_NAMED = ""
"""The name of a queue of one's own that RabbitMQ shall name, `amq.gen-...`: a user who may declare
such queues and nothing else cannot declare an exchange, whose bindings go round permissions."""


class QueueType(StrEnum):
    """What holds the folds and data messages."""

    CLASSIC = "classic"
    """The default: strict priority on every version from 3.10."""

    QUORUM = "quorum"
    """For replicated clusters on RabbitMQ 4.0 or later."""


@dataclass(frozen=True, order=True)
class ServerVersion:
    """RabbitMQ's version, from the connection's server properties."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> ServerVersion:
        """From `3.10.8`. Raises ConfigurationError when it is not a version."""
        try:
            major, minor = (int(number) for number in text.split(".")[:2])
        except ValueError as error:
            raise ConfigurationError(f"{text[:40]!r} is not a version of RabbitMQ") from error
        return cls(major, minor)

    def consumer_timeout_per_queue(self, kind: QueueType) -> bool:
        """Whether `x-consumer-timeout` works as a queue argument.

        3.x ignores it silently; 4.3 refuses it (406) on classic queues, which have none there.
        """
        if self < ServerVersion(4, 0):
            return False
        return kind is QueueType.QUORUM or self < ServerVersion(4, 3)

    def has_consumer_timeout(self, kind: QueueType) -> bool:
        """Whether a consumer that holds a delivery too long is cut off at all."""
        return not (kind is QueueType.CLASSIC and self >= ServerVersion(4, 3))


@dataclass(frozen=True)
class ClassicQueue:
    """A classic queue and the arguments it may have."""

    name: str
    max_priority: int | None = None
    consumer_timeout_ms: int | None = None
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    message_ttl_ms: int | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    single_active_consumer: bool = False
    durable: bool = True
    exclusive: bool = False

    def arguments(self, server: ServerVersion) -> Arguments:
        """As this server understands them."""
        timeout = self.consumer_timeout_ms
        if not server.consumer_timeout_per_queue(QueueType.CLASSIC):
            timeout = None
        return _set(
            {
                "x-max-priority": self.max_priority,
                "x-consumer-timeout": timeout,
                "x-dead-letter-exchange": self.dead_letter_exchange,
                "x-dead-letter-routing-key": self.dead_letter_routing_key,
                "x-message-ttl": self.message_ttl_ms,
                "x-max-length": self.max_length,
                "x-max-length-bytes": self.max_length_bytes,
                "x-single-active-consumer": self.single_active_consumer or None,
            }
        )


@dataclass(frozen=True)
class QuorumQueue:
    """A quorum queue: no `x-max-priority` (406), always durable, never drops on redelivery."""

    name: str
    consumer_timeout_ms: int | None = None
    dead_letter_exchange: str | None = None
    durable: Literal[True] = True
    exclusive: Literal[False] = False

    def arguments(self, server: ServerVersion) -> Arguments:
        """As this server understands them; ConfigurationError before RabbitMQ 4.0."""
        if server < ServerVersion(4, 0):
            raise ConfigurationError(
                f"queue_type=quorum needs RabbitMQ 4.0 or later (priorities); this server is "
                f"{server.major}.{server.minor}. Use queue_type=classic"
            )
        return _set(
            {
                "x-queue-type": "quorum",
                # Attempts are counted by the collector; a limit here would drop folds.
                "x-delivery-limit": -1,
                "x-consumer-timeout": self.consumer_timeout_ms,
                "x-dead-letter-exchange": self.dead_letter_exchange,
            }
        )


@dataclass(frozen=True)
class StreamQueue:
    """A stream: an append-only log that any number of consumers read."""

    name: str
    max_age: str | None = None
    max_segment_bytes: int | None = None
    durable: Literal[True] = True
    exclusive: Literal[False] = False

    def arguments(self, server: ServerVersion) -> Arguments:  # noqa: ARG002 - the same on all
        """As every server from 3.9 understands them."""
        return _set(
            {
                "x-queue-type": "stream",
                "x-max-age": self.max_age,
                "x-stream-max-segment-size-bytes": self.max_segment_bytes,
            }
        )


Queue = ClassicQueue | QuorumQueue | StreamQueue


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["topic", "fanout", "direct"] = "topic"


@dataclass(frozen=True)
class Binding:
    """What an exchange sends to a queue."""

    exchange: str
    queue: str
    key: str


@dataclass(frozen=True)
class Topology:
    """Everything that `datarun broker setup` declares."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


def folds_queue(pool: str) -> str:
    """The queue of a pool's folds."""
    return f"datarun.folds.{pool}"


def waiting_queue(pool: str) -> str:
    """Where folds of a pool wait two seconds at a time for their data set."""
    return f"datarun.folds.{pool}.waiting"


def folds_key(pool: str) -> str:
    """The routing key of a pool's folds."""
    return f"folds.{pool}"


def heartbeats_queue(collector: str) -> str:
    """A collector's own queue of heartbeats: a standby hears them, too."""
    return f"datarun.heartbeats.{collector}"


def blob_stream(visibility: Visibility, blob: str) -> str:
    """The stream that holds one part of a data set; also its routing key."""
    return f"datarun.blob.{visibility}.{blob}"


def blobs_exchange(visibility: Visibility) -> str:
    """Where parts of this visibility are published: one exchange each, so that rights differ."""
    return f"datarun.blobs.{visibility}"


def work_queue(
    name: str, queue_type: QueueType, consumer_timeout_ms: int | None
) -> ClassicQueue | QuorumQueue:
    """A priority queue of folds or data messages, of the chosen type."""
    if queue_type is QueueType.QUORUM:
        return QuorumQueue(name, consumer_timeout_ms=consumer_timeout_ms, dead_letter_exchange=DEAD)
    return ClassicQueue(
        name,
        max_priority=MAX_PRIORITY,
        consumer_timeout_ms=consumer_timeout_ms,
        dead_letter_exchange=DEAD,
    )


def topology(
    pools: tuple[str, ...] = ("default",),
    queue_type: QueueType = QueueType.CLASSIC,
    consumer_timeout_ms: int | None = 48 * 3600 * 1000,
) -> Topology:
    """The shared topology. Per-blob streams and per-worker queues come and go beside it."""
    queues: list[Queue] = [
        work_queue(DATA_QUEUE, queue_type, consumer_timeout_ms),
        # Without dead_letter_exchange: the collector puts messages aside through its outbox, and
        # a request that expires unanswered interests nobody.
        ClassicQueue(
            COLLECTOR_QUEUE,
            single_active_consumer=True,
            consumer_timeout_ms=consumer_timeout_ms,
        ),
        # Beyond that, the oldest is dropped: https://www.rabbitmq.com/docs/maxlength
        ClassicQueue(
            DEAD_LETTERS_QUEUE,
            max_length=MOST_DEAD_LETTERS,
            max_length_bytes=MOST_DEAD_LETTER_BYTES,
        ),
        StreamQueue(CONTROL_STREAM, max_age="30D", max_segment_bytes=1_000_000),
    ]
    bindings = [
        Binding(WORK, DATA_QUEUE, KEY_DATA),
        Binding(WORK, COLLECTOR_QUEUE, "#"),
        Binding(EVENTS, COLLECTOR_QUEUE, "fold.#"),
        Binding(EVENTS, COLLECTOR_QUEUE, "data.#"),
        Binding(EVENTS, COLLECTOR_QUEUE, KEY_UPLOAD),
        Binding(EVENTS, CONTROL_STREAM, KEY_NONCE),
        Binding(CONTROL, CONTROL_STREAM, "#"),
        Binding(DEAD, DEAD_LETTERS_QUEUE, "#"),
        Binding(DEAD, COLLECTOR_QUEUE, "#"),
    ]
    for pool in pools:
        queues += [
            work_queue(folds_queue(pool), queue_type, consumer_timeout_ms),
            ClassicQueue(
                waiting_queue(pool),
                message_ttl_ms=WAITING_TTL_MS,
                # The default exchange, straight to the pool's queue: past the collector.
                dead_letter_exchange="",
                dead_letter_routing_key=folds_queue(pool),
            ),
        ]
        bindings += [
            Binding(WORK, folds_queue(pool), folds_key(pool)),
            Binding(WAITING, waiting_queue(pool), folds_key(pool)),
        ]
    topics = (WORK, EVENTS, RESULTS, CONTROL, WAITING, DEAD)
    blobs = [Exchange(blobs_exchange(visibility), "direct") for visibility in Visibility]
    exchanges = (*map(Exchange, topics), *blobs)
    return Topology(exchanges, tuple(queues), tuple(bindings))


def _set(arguments: dict[str, int | str | bool | None]) -> Arguments:
    return {name: value for name, value in arguments.items() if value is not None}
