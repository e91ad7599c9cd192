"""BlockingLink: every call ends with an answer or a sentence that says what to do."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pika
import pytest

from broker.blocking import BlockingLink
from schemas.errors import (
    AccessRefused,
    BrokerError,
    BrokerUnreachable,
    CollectorUnreachable,
    ConfigurationError,
    PublishError,
    RequestError,
    TopologyError,
)
from schemas.messages import CancelMessage
from schemas.permissions import BrokerUser
from schemas.requests import StatusReply, StatusRequest
from schemas.states import Visibility
from schemas.topology import COLLECTOR_QUEUE, RESULTS, WORK, blob_stream, blobs_exchange
from schemas.wire import pack
from tests.support.rabbitmq import Vhost
from tests.support.scripted_collector import ScriptedCollector, declared_once

__all__ = ["declared_once"]

SECRET = "sesame-street"
MESSAGE = CancelMessage(submission_fold_ids=(1,))


def test_a_wrong_password_is_said_without_the_password(vhost: Vhost) -> None:
    node = vhost.node
    with pytest.raises(AccessRefused, match="wrong user name or password") as caught:
        BlockingLink(f"amqp://{node.username}:{SECRET}@127.0.0.1:{node.amqp_port}/", "test", 5)
    assert SECRET not in str(caught.value)


def test_a_virtual_host_that_does_not_exist_is_named(vhost: Vhost) -> None:
    url = vhost.logins.of(BrokerUser.PRODUCER).replace(f"/{vhost.name}", "/nowhere")
    with pytest.raises(AccessRefused, match="virtual host 'nowhere'"):
        BlockingLink(url, "test", 5)


def test_nobody_listening_says_where_and_what_to_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(BrokerUnreachable, match=rf"127.0.0.1:{port}: connection refused") as caught:
        BlockingLink(f"amqp://user:{SECRET}@127.0.0.1:{port}/", "test", 5)
    assert "datarun up" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(BrokerUnreachable, match=r"nowhere.invalid.*not known"):
        BlockingLink(f"amqp://user:{SECRET}@nowhere.invalid/", "test", 5)


def test_tls_towards_a_port_without_it_is_said(vhost: Vhost) -> None:
    url = vhost.logins.of(BrokerUser.PRODUCER).replace("amqp://", "amqps://")
    with pytest.raises(BrokerUnreachable, match="does not speak TLS"):
        BlockingLink(url, "test", 5)


def test_something_that_accepts_and_never_answers_ends_by_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable, match="did not answer in time"):
            BlockingLink(f"amqp://a:b@127.0.0.1:{silent.getsockname()[1]}/", "test", 1)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("url", [f"amqp://user:{SECRET}@host:port/", f"amqp://u:{SECRET}#@h/"])
def test_a_malformed_url_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="malformed") as caught:
        BlockingLink(url, "test", 5)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_message_that_no_queue_takes_is_an_error(broker_url: str) -> None:
    with (
        BlockingLink(broker_url, "test") as link,
        pytest.raises(PublishError, match=r"returned.*no queue takes it"),
    ):
        link.publish(blobs_exchange(Visibility.RAW), pack(MESSAGE, "nobody.listens"), deadline=10)


def test_an_exchange_that_is_missing_names_the_command(vhost: Vhost) -> None:
    with BlockingLink(vhost.logins.of(BrokerUser.PRODUCER), "test") as link:
        with pytest.raises(TopologyError, match=r"datarun.work.*datarun broker setup"):
            link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)
        with pytest.raises(TopologyError, match=r"datarun.results.*datarun broker setup"):
            link.subscribe(RESULTS, ["fold.#"], deadline=10)
        # The channel was closed by the broker each time; the link goes on.
        assert link.queue_depth(COLLECTOR_QUEUE, deadline=10) is None


def test_a_returned_message_among_many_does_not_hide_the_others(broker_url: str) -> None:
    # Given a link on which one message has just been returned
    with BlockingLink(broker_url, "test") as link:
        with pytest.raises(PublishError, match="returned"):
            link.publish(
                blobs_exchange(Visibility.RAW), pack(MESSAGE, "nobody.listens"), deadline=10
            )

        # When a thousand follow in a pipeline
        envelopes = [pack(MESSAGE, "cancel") for _ in range(1000)]
        confirmed = list(
            link.publish_many(((WORK, envelope) for envelope in envelopes), deadline=30)
        )

        # Then each is confirmed, in order, and in the collector's queue
        assert confirmed == envelopes
        depth = link.queue_depth(COLLECTOR_QUEUE, deadline=10)
        assert depth is not None
        assert depth.messages == 1000


def test_one_thread_s_refused_message_does_not_lose_another_s(broker_url: str) -> None:
    # Given a link on which one thread keeps publishing to an exchange that does not exist,
    # so that the broker closes their common channel again and again
    stop, missing = threading.Event(), blob_stream(Visibility.RAW, "nobody")
    with BlockingLink(broker_url, "test") as link:

        def misbehave() -> None:
            while not stop.is_set():
                with pytest.raises(BrokerError):
                    link.publish(missing, pack(MESSAGE, "x"), deadline=10)

        thread = threading.Thread(target=misbehave)
        thread.start()
        try:
            # When another one asks for confirmed messages
            confirmed = 0
            for _ in range(50):
                try:
                    link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)
                    confirmed += 1
                except TopologyError:
                    continue
        finally:
            stop.set()
            thread.join()

        # Then what was confirmed is there, and nothing hung
        depth = link.queue_depth(COLLECTOR_QUEUE, deadline=10)
        assert depth is not None
        assert depth.messages >= confirmed


def test_a_request_is_answered(scripted_collector: ScriptedCollector, broker_url: str) -> None:
    with BlockingLink(broker_url, "test") as link:
        assert isinstance(link.request(StatusRequest(), deadline=10), StatusReply)


def test_a_refused_request_carries_the_collectors_sentence(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    scripted_collector.refusal = "the collector has its reasons"
    with (
        BlockingLink(broker_url, "test") as link,
        pytest.raises(RequestError, match="has its reasons"),
    ):
        link.request(StatusRequest(), deadline=10)


def test_without_a_collector_the_error_says_so(broker_url: str) -> None:
    with (
        BlockingLink(broker_url, "test") as link,
        pytest.raises(CollectorUnreachable, match=r"no collector is connected.*datarun collector"),
    ):
        link.request(StatusRequest(), deadline=0.3)


def test_requests_of_many_threads_each_get_their_own_answer(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    answers: list[object] = []
    with BlockingLink(broker_url, "test") as link:

        def ask() -> None:
            answers.extend(link.request(StatusRequest(), deadline=20) for _ in range(20))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(answers) == 160


def test_closing_leaves_no_thread_and_no_socket(broker_url: str) -> None:
    before = threading.active_count()
    open_files = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        link = BlockingLink(broker_url, "test")
        with link.subscribe(RESULTS, ["fold.#"], deadline=10):
            link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)
        link.close()
        link.close()
    del link
    gc.collect()
    assert threading.active_count() == before
    assert len(os.listdir("/proc/self/fd")) <= open_files


def test_a_failed_connection_leaves_no_thread_and_no_socket() -> None:
    before = threading.active_count()
    open_files = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(BrokerUnreachable):
            BlockingLink("amqp://a:b@127.0.0.1:1/", "test", 5)
    gc.collect()
    assert threading.active_count() == before
    assert len(os.listdir("/proc/self/fd")) <= open_files


def test_a_closed_link_says_so_at_once_also_to_those_who_wait(broker_url: str) -> None:
    # Given a thread that waits for a collector that is not there
    link = BlockingLink(broker_url, "test")
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            link.request(StatusRequest(), deadline=60)
        except BrokerError as error:
            errors.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()

    # When the link is closed under it
    link.close()
    waiting.join(20)

    # Then it hears of it, and so does everybody who comes later
    assert [str(error) for error in errors] == ["this client is closed"]
    with pytest.raises(BrokerError, match="closed"):
        link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)


def test_a_program_that_forgets_to_close_its_client_ends_quietly(broker_url: str) -> None:
    code = f"from datarun import Client; client = Client({broker_url!r}); print('done')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_forked_child_is_told_to_make_its_own_client(broker_url: str) -> None:
    with BlockingLink(broker_url, "test") as link:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)
            except BrokerError as error:
                os.write(writer, str(error).encode())
            link.close()
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)

        assert "before a fork" in said
        # The parent's connection is untouched
        link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)


def test_our_user_is_on_every_message_so_that_the_uploader_can_be_trusted(
    declared: Vhost, broker_url: str
) -> None:
    with BlockingLink(broker_url, "test") as link:
        link.publish(WORK, pack(MESSAGE, "cancel"), deadline=10)

    collector = declared.logins.of(BrokerUser.COLLECTOR)
    with pika.BlockingConnection(pika.URLParameters(collector)) as connection:
        _, properties, _ = connection.channel().basic_get(COLLECTOR_QUEUE, auto_ack=True)
    assert properties.user_id == "producer"
    assert properties.delivery_mode == 2
    assert properties.type == "datarun.cancel.v1"
