"""The client when the line, the broker or the collector goes away and comes back."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest
from pika.adapters.select_connection import IOLoop

from broker.blobs import CHUNK_BYTES, read_blob, write_blob
from broker.blocking import BlockingLink
from broker.endpoint import Transports
from broker.private_node import PrivateNode
from broker.subscription import Interrupted
from datarun import Client, FoldMessage, Result
from schemas.errors import BlobError, BrokerUnreachable, CollectorUnreachable, PublishError
from schemas.messages import CancelMessage
from schemas.permissions import BrokerUser
from schemas.requests import ResultsRequest, StatusReply, StatusRequest
from schemas.states import Visibility
from schemas.topology import COLLECTOR_QUEUE, RESULTS, WORK
from schemas.wire import Envelope, pack
from tests.support.deadline import wait_until
from tests.support.played import Players
from tests.support.rabbitmq import Logins, Vhost
from tests.support.scripted_collector import (
    ScriptedCollector,
    a_dataset,
    a_record,
    declare,
    fold_arguments,
    wait_for,
)
from tests.support.tcp_proxy import TcpProxy

MESSAGE = CancelMessage(submission_fold_ids=(1,))


@pytest.fixture
def line(vhost: Vhost, proxy: Callable[[int], TcpProxy]) -> TcpProxy:
    """The line between client and broker."""
    return proxy(vhost.node.amqp_port)


@pytest.fixture
def url(line: TcpProxy, broker_url: str, vhost: Vhost) -> str:
    """The broker, through the line."""
    return vhost.logins.through(line.port).of(BrokerUser.PRODUCER)


@pytest.fixture
def logins(line: TcpProxy, declared: Vhost) -> Logins:
    """The same for whoever writes and reads parts."""
    return declared.logins.through(line.port)


def test_a_line_cut_again_and_again_loses_no_published_fold(
    url: str, line: TcpProxy, scripted_collector: ScriptedCollector
) -> None:
    # Given a line that breaks whenever some more folds have arrived
    stop = threading.Event()

    def cut() -> None:
        arrived = 0
        while not stop.is_set():
            if len(scripted_collector.received) > arrived + 200:
                arrived = len(scripted_collector.received)
                line.reset()
            stop.wait(0.01)

    saboteur = threading.Thread(target=cut)
    saboteur.start()
    try:
        # When a thousand folds are published
        with Client(url) as client:
            run_ids = client.publish_folds(fold_arguments(number) for number in range(1000))
    finally:
        stop.set()
        saboteur.join()

    # Then every one has arrived under the run id that was returned; some perhaps twice
    def arrived_ids() -> set[str | None]:
        return {
            envelope.message_id
            for envelope, message in list(scripted_collector.received)
            if isinstance(message, FoldMessage)
        }

    wait_until(lambda: set(run_ids) <= arrived_ids(), what="every fold")
    assert len(set(run_ids)) == 1000
    assert line.accepted > 1


def test_a_request_is_asked_again_when_its_answer_was_lost(
    url: str, line: TcpProxy, scripted_collector: ScriptedCollector
) -> None:
    # Given a client that waits for a collector that is away
    scripted_collector.stop()
    answers: list[object] = []
    with BlockingLink(url, "test") as link:
        asking = threading.Thread(
            target=lambda: answers.append(link.request(StatusRequest(), deadline=30))
        )
        asking.start()
        wait_until(lambda: _depth(link) == 1, what="the request in the collector's queue")

        # When the line breaks, and the collector answers to a connection that is gone
        line.cut()
        scripted_collector.start()
        wait_for(scripted_collector, StatusRequest)
        line.mend()
        asking.join(30)

    # Then the answer comes over the new one
    assert [type(answer) for answer in answers] == [StatusReply]


def _depth(link: BlockingLink) -> int:
    depth = link.queue_depth(COLLECTOR_QUEUE, deadline=10)
    return -1 if depth is None else depth.messages


def test_a_verdict_stored_while_the_line_was_cut_is_followed_nevertheless(
    url: str, line: TcpProxy, scripted_collector: ScriptedCollector
) -> None:
    # Given a client that follows a fold
    results: list[Result] = []
    with Client(url) as client:
        following = threading.Thread(target=lambda: results.extend(client.follow([11], timeout=60)))
        following.start()
        wait_for(scripted_collector, ResultsRequest)

        # When the verdict is stored and announced while the line is cut
        line.cut()
        scripted_collector.store(a_record(11))
        wait_until(lambda: 11 in scripted_collector.records)
        line.mend()
        began = time.monotonic()
        following.join(30)

    # Then it comes as soon as the line is back, not only by the periodical question
    assert [result.submission_fold_id for result in results] == [11]
    assert time.monotonic() - began < 8


def test_a_reader_is_told_that_its_subscription_was_interrupted(
    url: str, line: TcpProxy, declared: Vhost
) -> None:
    with (
        BlockingLink(url, "test") as link,
        Players(declared.logins) as others,
        link.subscribe(RESULTS, ["fold.#"], deadline=10) as news,
    ):
        line.reset()
        assert isinstance(news.next(20), Interrupted)
        # And goes on afterwards
        others.publish((RESULTS, pack(MESSAGE, "fold.iris.1")))
        assert isinstance(news.next(20), Envelope)


def test_a_line_that_has_died_ends_a_publication_by_its_deadline(url: str, line: TcpProxy) -> None:
    with BlockingLink(url, "test") as link:
        line.stall()
        began = time.monotonic()
        with pytest.raises(PublishError, match=r"did not confirm .* within 0.5 s"):
            link.publish(WORK, pack(MESSAGE, "cancel"), deadline=0.5)
        assert time.monotonic() - began < 5
        line.mend()
        # What was unknown arrived; the link goes on
        link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)


def test_a_line_that_stays_cut_is_the_reason_given(url: str, line: TcpProxy) -> None:
    with BlockingLink(url, "test") as link:
        line.cut()
        with pytest.raises(PublishError, match="the connection was lost"):
            link.publish(WORK, pack(MESSAGE, "cancel"), deadline=1)
        with pytest.raises(CollectorUnreachable, match="the connection was lost"):
            link.request(StatusRequest(), deadline=1)
        with pytest.raises(BrokerUnreachable):
            link.queue_depth(COLLECTOR_QUEUE, deadline=1)


def test_closing_a_client_whose_line_is_dead_does_not_take_for_ever(
    url: str, line: TcpProxy
) -> None:
    threads_before = threading.enumerate()
    link = BlockingLink(url, "test")
    # The proxy starts threads for the line as well.
    started = [thread for thread in threading.enumerate() if thread not in threads_before]
    ours = [thread for thread in started if "proxy" not in thread.name]
    assert ours
    open_files = len(os.listdir("/proc/self/fd"))
    line.stall()
    began = time.monotonic()
    link.close()
    assert time.monotonic() - began < 8
    assert [thread.name for thread in ours if thread.is_alive()] == []
    assert len(os.listdir("/proc/self/fd")) < open_files


def test_heartbeats_are_answered_while_the_program_computes(
    url: str, line: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a heartbeat of one second
    monkeypatch.setattr("broker.endpoint.HEARTBEAT_SECONDS", 1)
    with BlockingLink(url, "test") as link:
        # When the program computes for five, and never calls us
        busy_until = time.monotonic() + 5
        while time.monotonic() < busy_until:
            hashlib.sha256(b"x" * 1000).hexdigest()

        # Then the connection is still the first one
        link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)
    assert line.accepted == 1


def test_a_collector_that_restarts_does_not_end_a_follow(
    scripted_collector: ScriptedCollector,
    broker_url: str,
    vhost: Vhost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a client with little patience for one answer, that follows a fold
    monkeypatch.setattr("producer.following.ASK_AGAIN_SECONDS", 0.2)
    results: list[Result] = []
    with (
        Client(broker_url, timeout=0.5) as client,
        pika.BlockingConnection(
            pika.URLParameters(vhost.logins.of(BrokerUser.COLLECTOR))
        ) as connection,
    ):
        following = threading.Thread(target=lambda: results.extend(client.follow([11], timeout=60)))
        following.start()
        wait_for(scripted_collector, ResultsRequest)

        # When the collector is away while three questions go unanswered
        scripted_collector.stop()
        channel = connection.channel()
        unanswered: set[str] = set()

        def three_unanswered() -> bool:
            _, properties, _ = channel.basic_get(COLLECTOR_QUEUE, auto_ack=True)
            if properties is not None:
                unanswered.add(properties.message_id)
            return len(unanswered) >= 3

        wait_until(three_unanswered, what="three unanswered questions")
        scripted_collector.records[11] = a_record(11)
        scripted_collector.start()
        following.join(30)

    assert [result.submission_fold_id for result in results] == [11]


def test_a_database_that_is_away_delays_answers_and_ends_no_follow(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    # Given a collector whose database is away
    scripted_collector.database_away = True
    scripted_collector.records[11] = a_record(11)

    # Then one who has no time is told so
    with (
        Client(broker_url, timeout=0.5) as client,
        pytest.raises(CollectorUnreachable, match="database is away"),
    ):
        client.status()

    # And one who has time gets the answer, when the database is back after some questions
    results: list[Result] = []
    asked = len(scripted_collector.messages(ResultsRequest))
    with Client(broker_url) as client:
        following = threading.Thread(target=lambda: results.extend(client.follow([11], timeout=60)))
        following.start()
        wait_for(scripted_collector, ResultsRequest, asked + 3)
        scripted_collector.database_away = False
        following.join(30)
    assert [result.submission_fold_id for result in results] == [11]


def test_a_part_is_written_and_read_whole_over_a_line_that_breaks(
    logins: Logins, line: TcpProxy, declared: Vhost
) -> None:
    # Given 24 MiB, and a line that breaks in the middle of writing and of reading
    content, blob = os.urandom(CHUNK_BYTES) * 24, uuid.uuid4().hex
    broken: set[str] = set()

    def break_once(what: str) -> Callable[[int], None]:
        def told(done: int) -> None:
            if done > len(content) // 3 and what not in broken:
                broken.add(what)
                line.reset()

        return told

    # When it is written and read
    size, sha256 = write_blob(
        logins.of(BrokerUser.PREPARER),
        Visibility.PUBLIC,
        blob,
        content,
        on_progress=break_once("writing"),
    )
    target = io.BytesIO()
    read_blob(
        logins.of(BrokerUser.WORKER),
        Visibility.PUBLIC,
        blob,
        target,
        size=size,
        sha256=sha256,
        on_progress=break_once("reading"),
    )

    # Then it is whole, also for a reader whose line holds
    assert broken == {"writing", "reading"}
    assert target.getvalue() == content
    again, reader = io.BytesIO(), declared.logins.of(BrokerUser.WORKER)
    read_blob(reader, Visibility.PUBLIC, blob, again, size=size, sha256=sha256)
    assert again.getvalue() == content


def test_writing_over_a_line_that_stays_cut_gives_up(logins: Logins, line: TcpProxy) -> None:
    def cut(_done: int) -> None:
        line.cut()

    began = time.monotonic()
    with pytest.raises(BlobError, match="writing data-set part"):
        write_blob(
            logins.of(BrokerUser.PREPARER),
            Visibility.PUBLIC,
            uuid.uuid4().hex,
            os.urandom(CHUNK_BYTES) * 40,
            on_progress=cut,
            patience=1,
        )
    assert time.monotonic() - began < 20


def test_a_connection_reset_before_it_is_looked_at_is_a_failed_attempt() -> None:
    # Given a connection that is gone again when pika looks at it
    loop = IOLoop()
    loop.activate_poller()
    gone = socket.socket()
    seen: list[object] = []

    # When a transport is made of it
    Transports(loop).create_streaming_connection(
        protocol_factory=lambda: None, sock=gone, on_done=seen.append
    )
    loop.poll()
    loop.process_timeouts()

    # Then that is the answer, and nothing is raised in the loop's thread
    (reason,) = seen
    assert isinstance(reason, OSError)
    assert reason.errno == errno.ENOTCONN
    loop.close()


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[PrivateNode]:
    """A node that this test may kill."""
    node = PrivateNode(tmp_path / "node")
    node.start()
    yield node
    node.stop(clean=False)


@pytest.mark.slow
def test_a_broker_killed_and_restarted_is_survived_by_a_client_in_the_middle(
    own_node: PrivateNode,
) -> None:
    # Given a client on a broker of its own, with confirmed folds and a follow under way
    logins = Logins.of_node(own_node.address)
    declare(logins.admin)
    collector = ScriptedCollector(logins.of(BrokerUser.COLLECTOR))
    collector.datasets["iris"] = a_dataset()
    collector.start()
    try:
        with Client(logins.of(BrokerUser.PRODUCER)) as client:
            run_ids = client.publish_folds(fold_arguments(number) for number in range(10))
            results: list[Result] = []
            following = threading.Thread(
                target=lambda: results.extend(client.follow([0], timeout=90))
            )
            following.start()
            wait_for(collector, ResultsRequest)

            # When the broker is killed without warning and started again
            own_node.kill()
            own_node.start()
            assert own_node.address.amqp_url == logins.admin
            collector.stop()
            collector.start()

            # Then the client goes on: it publishes, and the follow ends with the verdict
            run_ids.append(client.publish_fold(**fold_arguments(10)))
            collector.store(a_record(0))
            following.join(60)
    finally:
        collector.stop()

    assert [result.submission_fold_id for result in results] == [0]
    with pika.BlockingConnection(pika.URLParameters(logins.admin)) as connection:
        waiting = connection.channel().queue_declare("datarun.folds.default", passive=True)
    assert waiting.method.message_count == len(run_ids)
