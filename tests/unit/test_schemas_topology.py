"""Queue arguments are those that each RabbitMQ version accepts; bindings lead somewhere.

What the versions accept was measured on RabbitMQ 3.10.8, 4.0.5 and 4.3.6.
"""

from __future__ import annotations

import pytest

from schemas.errors import ConfigurationError
from schemas.states import Visibility
from schemas.topology import (
    CONTROL_STREAM,
    DATA_QUEUE,
    DEAD,
    DEAD_LETTERS_QUEUE,
    EVENTS,
    WAITING,
    WORK,
    ClassicQueue,
    QueueType,
    QuorumQueue,
    ServerVersion,
    StreamQueue,
    Topology,
    blob_stream,
    blobs_exchange,
    folds_key,
    folds_queue,
    topology,
    waiting_queue,
)

V3_10, V4_0, V4_2, V4_3 = (ServerVersion(3, 10), *(ServerVersion(4, n) for n in (0, 2, 3)))
VERSIONS = [V3_10, V4_0, V4_2, V4_3]
CLASSIC, QUORUM = QueueType.CLASSIC, QueueType.QUORUM
HOUR = 3_600_000


def queue_of(made: Topology, name: str) -> ClassicQueue | QuorumQueue | StreamQueue:
    (queue,) = [queue for queue in made.queues if queue.name == name]
    return queue


@pytest.mark.parametrize(
    ("text", "version"),
    [("3.10.8", V3_10), ("4.0.5", V4_0), ("4.3.6", V4_3), ("4.3.0-rc.1", V4_3), ("4.3", V4_3)],
)
def test_a_server_version_is_read(text: str, version: ServerVersion):
    assert ServerVersion.parse(text) == version


@pytest.mark.parametrize("text", ["", "4", "four.three", "v4.3", ".."])
def test_what_is_no_server_version_is_said(text: str):
    with pytest.raises(ConfigurationError, match="not a version of RabbitMQ"):
        ServerVersion.parse(text)


def test_versions_are_compared_as_numbers():
    assert ServerVersion(3, 9) < V3_10 < V4_0 < V4_3 < ServerVersion(10, 0)


@pytest.mark.parametrize(
    ("version", "kind", "as_argument", "has_timeout"),
    [
        (V3_10, CLASSIC, False, True),
        (V4_0, CLASSIC, True, True),
        (V4_0, QUORUM, True, True),
        (V4_2, CLASSIC, True, True),
        (V4_3, CLASSIC, False, False),
        (V4_3, QUORUM, True, True),
    ],
)
def test_where_the_consumer_timeout_can_be_set(
    version: ServerVersion, kind: QueueType, as_argument: bool, has_timeout: bool
):
    # Given what was measured: 3.x ignores the argument, 4.3 refuses it on classic queues
    assert version.consumer_timeout_per_queue(kind) is as_argument
    assert version.has_consumer_timeout(kind) is has_timeout

    # Then a folds queue has the argument there and nowhere else
    queue = queue_of(topology(queue_type=kind, consumer_timeout_ms=HOUR), "datarun.folds.default")
    arguments = queue.arguments(version)
    assert arguments.get("x-consumer-timeout") == (HOUR if as_argument else None)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_classic_queue_is_given_what_a_server_refuses(version: ServerVersion):
    for queue in topology(consumer_timeout_ms=HOUR).queues:
        arguments = queue.arguments(version)
        if version in (V3_10, V4_3):
            assert "x-consumer-timeout" not in arguments
        if isinstance(queue, StreamQueue):
            # Refused on streams.
            assert not {"x-expires", "x-max-priority", "x-message-ttl"} & set(arguments)
            assert arguments["x-queue-type"] == "stream"
        else:
            assert "x-queue-type" not in arguments


def test_a_classic_folds_queue_has_strict_priorities():
    for name in (folds_queue("default"), DATA_QUEUE):
        for version in VERSIONS:
            arguments = queue_of(topology(), name).arguments(version)
            assert arguments["x-max-priority"] == 5
            assert arguments["x-dead-letter-exchange"] == DEAD


@pytest.mark.parametrize("version", [V4_0, V4_2, V4_3])
def test_a_quorum_folds_queue_never_drops_and_has_no_max_priority(version: ServerVersion):
    made = topology(queue_type=QUORUM)
    for name in (folds_queue("default"), DATA_QUEUE):
        arguments = queue_of(made, name).arguments(version)
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-delivery-limit"] == -1
        assert "x-max-priority" not in arguments


def test_quorum_queues_are_refused_before_rabbitmq_4():
    with pytest.raises(ConfigurationError, match=r"needs RabbitMQ 4\.0.*is 3\.10.*classic"):
        queue_of(topology(queue_type=QUORUM), folds_queue("default")).arguments(V3_10)


def test_an_argument_that_is_not_set_is_not_sent():
    queue = ClassicQueue("plain")
    assert all(queue.arguments(version) == {} for version in VERSIONS)
    assert all("x-consumer-timeout" not in QuorumQueue("q").arguments(v) for v in VERSIONS[1:])


@pytest.mark.parametrize("queue_type", list(QueueType))
@pytest.mark.parametrize("pools", [("default",), ("cpu", "gpu"), ()])
def test_every_binding_and_dead_letter_exchange_leads_somewhere(
    queue_type: QueueType, pools: tuple[str, ...]
):
    # Given the whole topology
    made = topology(pools, queue_type)
    exchanges = [exchange.name for exchange in made.exchanges]
    queues = [queue.name for queue in made.queues]

    # Then names are unique, and whatever refers to one of them finds it
    assert len(set(exchanges)) == len(exchanges)
    assert len(set(queues)) == len(queues)
    assert len(set(made.bindings)) == len(made.bindings)
    for binding in made.bindings:
        assert binding.exchange in exchanges
        assert binding.queue in queues
    for queue in made.queues:
        arguments = queue.arguments(V4_3)
        assert arguments.get("x-dead-letter-exchange", "") in ["", *exchanges]
        assert arguments.get("x-dead-letter-routing-key", queue.name) in queues
        assert queue.durable
        assert not queue.exclusive
    # And every queue is reached by something
    assert {binding.queue for binding in made.bindings} == set(queues)


def test_a_fold_reaches_its_pool_and_the_collector_only():
    # Given two pools, and the keys of a topic exchange without wildcards
    made = topology(("cpu", "gpu"))
    reached = {
        binding.queue
        for binding in made.bindings
        if binding.exchange == WORK and binding.key in (folds_key("gpu"), "#")
    }
    assert reached == {folds_queue("gpu"), "datarun.collector"}


def test_a_waiting_fold_goes_back_to_its_pool_past_the_collector():
    made = topology(("gpu",))
    (binding,) = [binding for binding in made.bindings if binding.exchange == WAITING]
    assert (binding.queue, binding.key) == (waiting_queue("gpu"), folds_key("gpu"))
    for version in VERSIONS:
        assert queue_of(made, binding.queue).arguments(version) == {
            "x-message-ttl": 2000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": folds_queue("gpu"),
        }


def test_the_collector_has_one_queue_with_a_single_active_consumer():
    collector = queue_of(topology(), "datarun.collector")
    assert collector.arguments(V4_3)["x-single-active-consumer"] is True


def test_heartbeats_never_pile_up():
    keys = {b.key for b in topology().bindings if b.exchange == EVENTS and "collector" in b.queue}
    assert "heartbeat" not in keys
    assert "#" not in keys


def test_the_control_stream_forgets_after_30_days():
    arguments = queue_of(topology(), CONTROL_STREAM).arguments(V3_10)
    assert arguments["x-max-age"] == "30D"


def test_a_blob_is_named_after_who_may_read_it():
    assert [blob_stream(visibility, "a1") for visibility in Visibility] == [
        "datarun.blob.public.a1",
        "datarun.blob.raw.a1",
        "datarun.blob.secret.a1",
    ]
    kinds = {exchange.name: exchange.type for exchange in topology().exchanges}
    assert {kinds[blobs_exchange(visibility)] for visibility in Visibility} == {"direct"}


@pytest.mark.parametrize("version", VERSIONS)
def test_dead_letters_are_bounded_in_number_and_in_bytes(version: ServerVersion):
    queue = queue_of(topology(), DEAD_LETTERS_QUEUE)
    assert queue.arguments(version) == {"x-max-length": 100_000, "x-max-length-bytes": 4 << 30}
