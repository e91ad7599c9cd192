"""What datarun's users may not do at RabbitMQ, tried at a running stack, whose services are such
users themselves. What they may do, every other test shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from broker.blobs import delete_blob, read_blob, write_blob
from broker.properties import to_pika
from schemas.datasets import HoldOut
from schemas.errors import BlobError
from schemas.messages import DataMessage, UploadMessage
from schemas.permissions import BrokerUser
from schemas.states import FoldState, Visibility
from schemas.topology import (
    COLLECTOR_QUEUE,
    CONTROL,
    CONTROL_STREAM,
    DATA_QUEUE,
    DEAD,
    DEAD_LETTERS_QUEUE,
    EVENTS,
    KEY_DATA,
    KEY_UPLOAD,
    RESULTS,
    WAITING,
    WORK,
    blob_stream,
    blobs_exchange,
    folds_queue,
)
from schemas.wire import Envelope, pack
from tests.support.deadline import wait_until
from tests.support.stack import Stack
from tests.support.submissions import DUMMY, write_iris

PRODUCER, WORKER, PREPARER = BrokerUser.PRODUCER, BrokerUser.WORKER, BrokerUser.PREPARER
COLLECTOR, OBSERVER = BrokerUser.COLLECTOR, BrokerUser.OBSERVER
PUBLIC, RAW, SECRET = Visibility.PUBLIC, Visibility.RAW, Visibility.SECRET
BLOB = "planted"
REFUSED = 403

Attempt = Callable[[BlockingChannel], object]


@contextmanager
def channel_of(url: str) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection.channel()


@pytest.fixture(scope="module")
def stack(shared_stack: Stack) -> Stack:
    """The shared one, where there is a blob of each visibility."""
    writers = {PUBLIC: PREPARER, SECRET: PREPARER, RAW: PRODUCER}
    for visibility, writer in writers.items():
        write_blob(shared_stack.logins.of(writer), visibility, BLOB, b"labels, perhaps")
    return shared_stack


def read(queue: str) -> Attempt:
    def attempt(channel: BlockingChannel) -> None:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue, lambda *_: None, arguments={"x-stream-offset": "first"})

    return attempt


def publish(exchange: str, key: str) -> Attempt:
    def attempt(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, b"{}")

    return attempt


def delete(queue: str) -> Attempt:
    return lambda channel: channel.queue_delete(queue)


def declare(queue: str, **arguments: str) -> Attempt:
    return lambda channel: channel.queue_declare(queue, durable=True, arguments=arguments)


def declare_exchange(name: str) -> Attempt:
    return lambda channel: channel.exchange_declare(name, "topic", durable=True)


def bind(queue: str, exchange: str, key: str) -> Attempt:
    return lambda channel: channel.queue_bind(queue, exchange, key)


def listen(exchange: str, key: str) -> Attempt:
    """Bind a queue of one's own, which everybody may have."""

    def attempt(channel: BlockingChannel) -> None:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, exchange, key)

    return attempt


def chain(to: str, by: str, key: str) -> Attempt:
    return lambda channel: channel.exchange_bind(to, by, key)


SHARED = (COLLECTOR_QUEUE, DATA_QUEUE, folds_queue("default"), DEAD_LETTERS_QUEUE, CONTROL_STREAM)
BLOBS = tuple(blob_stream(visibility, BLOB) for visibility in Visibility)

REFUSALS: dict[BrokerUser, dict[str, Attempt]] = {
    WORKER: {
        "read hidden labels": read(blob_stream(SECRET, BLOB)),
        "read uploaded data": read(blob_stream(RAW, BLOB)),
        "read what others ask the collector": read(COLLECTOR_QUEUE),
        "read data sets that are published": read(DATA_QUEUE),
        "read dead letters": read(DEAD_LETTERS_QUEUE),
        "publish a stored verdict": publish(RESULTS, "fold.iris.1"),
        "cancel runs": publish(CONTROL, "run"),
        "publish to any queue": publish("", COLLECTOR_QUEUE),
        "answer for the collector": publish("", "amq.rabbitmq.reply-to.abc"),
        "publish a data set": publish(WORK, "data"),
        "acknowledge results": publish(WORK, "acknowledge"),
        "cancel folds": publish(WORK, "cancel"),
        "ask the collector": publish(WORK, "request"),
        "report a data set": publish(EVENTS, "data.iris"),
        "own blobs, which are deleted with him": publish(EVENTS, "upload"),
        "put a data set aside": publish(DEAD, "data"),
        "publish past the waiting queue": publish(WAITING, "anything"),
        "write a data-set part": publish(blobs_exchange(PUBLIC), BLOBS[0]),
        "hear other workers' predictions": listen(EVENTS, "fold.#"),
        "hear everything": listen(EVENTS, "#"),
        "hear what is published": listen(WORK, "#"),
        "hear uploads": listen(blobs_exchange(RAW), "#"),
        "make an exchange": declare_exchange("mine"),
        "make an exchange by a queue's name": declare_exchange("datarun.worker.mine"),
        "have verdicts sent to his queue": bind(folds_queue("default"), RESULTS, "#"),
        "have predictions sent on": chain(WORK, EVENTS, "fold.#"),
        "have his messages stored as results": chain(RESULTS, EVENTS, "heartbeat"),
        "make a blob": declare(blob_stream(PUBLIC, "mine"), **{"x-queue-type": "stream"}),
        "make a queue that dead-letters to any": declare("", **{"x-dead-letter-exchange": ""}),
    },
    PREPARER: {
        "read folds": read(folds_queue("default")),
        "read the collector's queue": read(COLLECTOR_QUEUE),
        "publish a stored verdict": publish(RESULTS, "data.iris"),
        "publish a fold": publish(WORK, "folds.default"),
        "report a fold": publish(EVENTS, "fold.1"),
        "announce a data set": publish(CONTROL, "dataset"),
        "publish to any queue": publish("", COLLECTOR_QUEUE),
        "delete uploads": delete(blob_stream(RAW, BLOB)),
        "upload": publish(blobs_exchange(RAW), blob_stream(RAW, BLOB)),
    },
    PRODUCER: {
        "read hidden labels": read(blob_stream(SECRET, BLOB)),
        "read uploads of others": read(blob_stream(RAW, BLOB)),
        "read the parts of data sets": read(blob_stream(PUBLIC, BLOB)),
        "read folds": read(folds_queue("default")),
        "read the collector's queue": read(COLLECTOR_QUEUE),
        "hear events": listen(EVENTS, "#"),
        "report a fold": publish(EVENTS, "fold.1"),
        "publish a stored verdict": publish(RESULTS, "fold.iris.1"),
        "cancel past the collector": publish(CONTROL, "run"),
        "publish to any queue": publish("", folds_queue("default")),
        "write a data-set part": publish(blobs_exchange(SECRET), blob_stream(SECRET, BLOB)),
    },
    COLLECTOR: {
        "read folds": read(folds_queue("default")),
        "read uploaded data": read(blob_stream(RAW, BLOB)),
        "report a fold": publish(EVENTS, "fold.1"),
        "delete the folds": delete(folds_queue("default")),
    },
    OBSERVER: {
        "publish work": publish(WORK, "folds.default"),
        "ask the collector": publish(WORK, "request"),
        "report a fold": publish(EVENTS, "fold.1"),
        "publish a stored verdict": publish(RESULTS, "fold.iris.1"),
        "publish to any queue": publish("", folds_queue("default")),
        "read folds": read(folds_queue("default")),
        "read control messages": read(CONTROL_STREAM),
        "hear what is published": listen(WORK, "#"),
        "have events sent on": chain(WORK, EVENTS, "#"),
        "make a queue that dead-letters": declare("", **{"x-dead-letter-exchange": WORK}),
        **{f"read blob {stream}": read(stream) for stream in BLOBS},
    },
}


@pytest.mark.parametrize("user", REFUSALS)
def test_a_user_is_refused_what_is_not_his_work(stack: Stack, user: BrokerUser) -> None:
    # When a user tries what only others may, and to delete and redeclare what is shared
    attempts = REFUSALS[user] | {f"declare {name}": declare_exchange(name) for name in (WORK, "x")}
    if user is not COLLECTOR:
        attempts |= {f"delete {name}": delete(name) for name in SHARED}
    answers: dict[str, object] = {}
    with pika.BlockingConnection(pika.URLParameters(stack.logins.of(user))) as connection:
        for what, attempt in attempts.items():
            channel = connection.channel()
            try:
                attempt(channel)
                channel.queue_declare("", exclusive=True)  # what was refused is said by now
                answers[what] = "allowed"
            except ChannelClosedByBroker as error:
                answers[what] = error.reply_code

    # Then RabbitMQ refuses each
    assert answers == dict.fromkeys(attempts, REFUSED)


@pytest.mark.parametrize(
    ("user", "visibility"),
    [(WORKER, SECRET), (WORKER, RAW), (PRODUCER, RAW), (PRODUCER, SECRET), (COLLECTOR, RAW)],
)
def test_a_part_that_is_not_for_a_user_is_refused_in_a_sentence(
    stack: Stack, user: BrokerUser, visibility: Visibility
) -> None:
    with pytest.raises(BlobError, match=f"reading .*refused for user '{user}'"):
        read_blob(
            stack.logins.of(user),
            visibility,
            BLOB,
            BytesIO(),
            size=15,
            sha256="0" * 64,
            patience=5,
        )


def test_a_worker_deletes_no_part(stack: Stack) -> None:
    for visibility in Visibility:
        with pytest.raises(BlobError, match="refused for user 'worker'"):
            delete_blob(stack.logins.of(WORKER), visibility, BLOB)


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_a_worker_sends_nothing_by_a_second_routing_key(stack: Stack, header: str) -> None:
    # When a worker publishes a data set with the key of a fold, and that of a data set beside it
    _, message = SMUGGLED["a data set"]
    message = replace(message, routing_key="folds.default", headers={header: ["data"]})
    (prepare,) = [each for each in stack.services if "prepare" in str(each.process.args)]
    is_dropped = '"action": "detoured"'
    before = prepare.log.count(is_dropped)
    with channel_of(stack.logins.of(WORKER)) as channel:
        channel.basic_publish(WORK, message.routing_key, message.body, to_pika(message))

        # Then RabbitMQ 4 refuses it, and before 4 the prepare worker drops it
        refusal = None
        try:
            channel.queue_declare("", exclusive=True)  # what was refused is said by now
        except ChannelClosedByBroker as error:
            refusal = error.reply_code
        if refusal is None:
            wait_until(lambda: prepare.log.count(is_dropped) > before, what="that it is dropped")
    assert refusal in {None, REFUSED}

    # And the collector knows no such data set
    assert stack.rows("SELECT name FROM datasets WHERE name = 'smuggled'") == []


def test_an_observer_hears_events_heartbeats_and_results(stack: Stack, tmp_path: Path) -> None:
    # Given an observer with a queue of its own
    with channel_of(stack.logins.of(OBSERVER)) as channel, stack.client() as client:
        queue = channel.queue_declare("", exclusive=True).method.queue
        for exchange in (EVENTS, RESULTS):
            channel.queue_bind(queue, exchange, "#")

        # When a data set and a fold go their way
        client.publish_data(
            "watched",
            files=[write_iris(tmp_path)],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=60,
        )
        client.publish_fold(
            submission_fold_id=1,
            submission_id=1,
            dataset="watched",
            files={"classifier.py": DUMMY},
            train_is=range(50),
            test_is=range(50, 75),
        )
        [result] = client.follow([1], timeout=60)
        assert result.state is FoldState.TESTED

        # Then it has heard of all of it
        heard: set[str] = set()

        def everything() -> bool:
            method, _, _ = channel.basic_get(queue, auto_ack=True)
            if method is not None:
                heard.add(f"{method.exchange} {method.routing_key}")
            return heard >= {
                f"{EVENTS} data.watched",
                f"{EVENTS} heartbeat",
                f"{EVENTS} fold.1",
                f"{RESULTS} data.watched",
                f"{RESULTS} fold.watched.1",
            }

        wait_until(everything, what=f"what was published; heard: {heard}")


SMUGGLED: dict[str, tuple[str, Envelope]] = {
    "a data set": (
        WORK,
        pack(
            DataMessage(
                name="smuggled",
                target_column="species",
                workflow_elements="classifier",
                files={"a.csv": "x,species\n" + "1,a\n2,b\n" * 4},
                split=HoldOut(0.5),
            ),
            KEY_DATA,
        ),
    ),
    "the end of a blob": (
        EVENTS,
        pack(UploadMessage(owner="nobody", blobs=((SECRET, BLOB),)), KEY_UPLOAD),
    ),
    "the end of a data set": (
        DEAD,
        Envelope(b'{"name": "smuggled"}', KEY_DATA, type=DataMessage.TYPE, message_id="m"),
    ),
}
"""What a worker may not publish: the exchange, and the message with its key."""


@pytest.mark.parametrize("what", SMUGGLED)
def test_a_worker_sends_nothing_round_by_dead_letters(stack: Stack, what: str) -> None:
    # Given a worker's queue that dead-letters with a key which it may not publish with
    exchange, message = SMUGGLED[what]
    with channel_of(stack.logins.of(WORKER)) as channel:
        arguments = {
            "x-dead-letter-exchange": exchange,
            "x-dead-letter-routing-key": message.routing_key,
            "x-message-ttl": 0,
        }
        queue = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
        channel.queue_bind(queue, EVENTS, "heartbeat")

        # When it publishes as what it may, and RabbitMQ sends it on
        channel.basic_publish(EVENTS, "heartbeat", message.body, to_pika(message))

        # Then the collector takes nothing from there
        def ignored() -> bool:
            rows = stack.rows("SELECT kind, reason FROM ignored_messages")
            return (f"detoured {message.type}", f"it was dead-lettered by queue '{queue}'") in {
                (kind, reason.partition(",")[0]) for kind, reason in rows
            }

        wait_until(ignored, what="that it is ignored")
    assert stack.rows("SELECT name FROM datasets WHERE name = 'smuggled'") == []
    assert stack.rows(f"SELECT blob FROM blobs WHERE blob = '{BLOB}'") == []

    # And the prepare worker prepares nothing
    if exchange == WORK:
        (prepare,) = [each for each in stack.services if "prepare" in str(each.process.args)]
        prepare.wait_for('"action": "detoured"')
