"""Who may do what at RabbitMQ: a user for each role, and the least rights that its work takes.

RabbitMQ asks for `configure` where a queue or exchange is declared or deleted, for `write` where
something is published or bound to it, for `read` where it is consumed or bound from; and on topic
exchanges for the routing key of what is published, and for the key of a binding. Names are matched
by regular expressions. https://www.rabbitmq.com/docs/access-control
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.states import Role, Visibility
from schemas.topology import (
    COLLECTOR_QUEUE,
    CONTROL,
    CONTROL_STREAM,
    DATA_QUEUE,
    DEAD,
    EVENTS,
    KEY_DATA,
    KEY_HEARTBEAT,
    KEY_NONCE,
    KEY_UPLOAD,
    RESULTS,
    WAITING,
    WORK,
    blob_stream,
    blobs_exchange,
    folds_key,
    folds_queue,
    heartbeats_queue,
)


class BrokerUser(StrEnum):
    """Users of RabbitMQ, by what they do."""

    PRODUCER = "producer"
    """Publishes data sets and folds, asks the collector, follows results: `Client`, databoard."""

    WORKER = "worker"
    """A worker of role folds, next to which submissions run."""

    PREPARER = "preparer"
    """A worker of role prepare, which splits uploaded data."""

    COLLECTOR = "collector"
    """Stores verdicts, and has the labels."""

    OBSERVER = "observer"
    """Looks on: events, heartbeats and results, in queues of its own; publishes nothing."""

    @classmethod
    def of_worker(cls, role: Role) -> BrokerUser:
        """The user of workers of this role."""
        return cls.WORKER if role is Role.FOLDS else cls.PREPARER


@dataclass(frozen=True)
class TopicPermission:
    """Which routing keys a user may publish to an exchange, and bind from it."""

    exchange: str
    write: str
    read: str


@dataclass(frozen=True)
class Permissions:
    """Regular expressions of names; what no topic permission names may have any key."""

    configure: str
    write: str
    read: str
    topics: tuple[TopicPermission, ...] = ()


PUBLIC, RAW, SECRET = Visibility.PUBLIC, Visibility.RAW, Visibility.SECRET
DEFAULT_EXCHANGE = "amq.default"
"""As permissions call it. Whoever may write to it can publish into every queue."""

OWN = "amq.gen*"
"""Queues that RabbitMQ has named (`SERVER_NAMED`). No exchange can have such a name, and ours are
exclusive: only the connection that made them can use them."""


def matching(*names: str) -> str:
    """A regular expression for just these names; a `*` stands for anything."""
    patterns = (re.escape(name).replace(r"\*", ".*") for name in names)
    return f"^({'|'.join(patterns)})$" if names else "^$"


def stream(visibility: Visibility) -> str:
    """All blobs of a visibility, for `matching`."""
    return blob_stream(visibility, "*")


FOLDS_KEYS = folds_key("*")

PERMISSIONS: Mapping[BrokerUser, Permissions] = {
    BrokerUser.PRODUCER: Permissions(
        configure=matching(OWN, stream(RAW)),
        write=matching(OWN, stream(RAW), WORK, blobs_exchange(RAW)),
        read=matching(OWN, RESULTS, blobs_exchange(RAW)),
    ),
    BrokerUser.WORKER: Permissions(
        configure=matching(OWN),
        write=matching(OWN, EVENTS, WAITING, WORK, DEAD),
        read=matching(OWN, folds_queue("*"), CONTROL_STREAM, stream(PUBLIC), EVENTS, RESULTS),
        topics=(
            TopicPermission(
                EVENTS,
                write=matching("fold.*", KEY_HEARTBEAT, KEY_NONCE),
                read=matching(KEY_HEARTBEAT),
            ),
            # What was typed into a queue's page of the management console goes the regular way.
            TopicPermission(WORK, write=matching(FOLDS_KEYS), read=matching()),
            TopicPermission(DEAD, write=matching(FOLDS_KEYS), read=matching()),
            TopicPermission(WAITING, write=matching(FOLDS_KEYS), read=matching()),
            # The control stream has its exchange's name.
            TopicPermission(CONTROL, write=matching(), read=matching()),
        ),
    ),
    BrokerUser.PREPARER: Permissions(
        configure=matching(OWN, stream(PUBLIC), stream(SECRET)),
        write=matching(
            OWN,
            *(stream(PUBLIC), stream(SECRET)),
            *(blobs_exchange(PUBLIC), blobs_exchange(SECRET)),
            *(EVENTS, WORK, DEAD),
        ),
        read=matching(
            OWN,
            *(DATA_QUEUE, stream(RAW), EVENTS),
            *(blobs_exchange(PUBLIC), blobs_exchange(SECRET)),
        ),
        topics=(
            TopicPermission(
                EVENTS,
                write=matching("data.*", KEY_UPLOAD, KEY_HEARTBEAT),
                read=matching(KEY_HEARTBEAT),
            ),
            TopicPermission(WORK, write=matching(KEY_DATA), read=matching()),
            TopicPermission(DEAD, write=matching(KEY_DATA), read=matching()),
        ),
    ),
    BrokerUser.COLLECTOR: Permissions(
        # It deletes blobs of every visibility; registered files it uploads itself.
        configure=matching(heartbeats_queue("*"), *map(stream, Visibility)),
        write=matching(
            heartbeats_queue("*"),
            *(stream(RAW), blobs_exchange(RAW)),
            *(WORK, RESULTS, CONTROL, DEAD, DEFAULT_EXCHANGE),
        ),
        read=matching(
            heartbeats_queue("*"),
            COLLECTOR_QUEUE,
            EVENTS,
            # The labels of both halves.
            *(stream(PUBLIC), stream(SECRET), blobs_exchange(RAW)),
        ),
        topics=(TopicPermission(EVENTS, write=matching(), read=matching(KEY_HEARTBEAT)),),
    ),
    BrokerUser.OBSERVER: Permissions(
        # It asks nothing: who may write to an exchange can have others' messages sent there.
        configure=matching(OWN),
        write=matching(OWN),
        read=matching(OWN, EVENTS, RESULTS),
    ),
}
"""Everybody's rights. Only an administrator declares what is shared (`datarun broker setup`)."""
