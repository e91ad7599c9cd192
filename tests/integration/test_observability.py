"""A stack that ran three folds: what its logs and its metrics say of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pika
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from broker.loopback_ports import free_ports
from broker.private_node import NodeAddress
from datarun import HoldOut
from schemas.permissions import BrokerUser
from schemas.states import Role
from schemas.topology import WORK, folds_key
from schemas.wire import pack
from tests.support.deadline import wait_until
from tests.support.messages import fold_message
from tests.support.rabbitmq import new_vhost
from tests.support.stack import Service, Stack
from tests.support.submissions import DUMMY, write_iris

WITHIN = 60
GOOD, BAD, MALFORMED = 11, 12, 13
BREAKS = "class Classifier:\n    def fit(self, X, y):\n        raise ValueError('secret sauce')\n"


@dataclass(frozen=True)
class Observed:
    """Services that have done their work, and still run."""

    stack: Stack
    services: dict[str, Service]
    ports: dict[str, int]

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The log of a service, each line parsed."""
        return [json.loads(line) for line in self.services[name].log.splitlines()]

    def value(self, service: str, sample: str, **labels: str) -> float:
        """One sample of a scrape, summed over the labels that are not named."""
        url = f"http://127.0.0.1:{self.ports[service]}/metrics"
        text = requests.get(url, timeout=10).text
        found = [
            each.value
            for family in text_string_to_metric_families(text)
            for each in family.samples
            if each.name == sample and labels.items() <= each.labels.items()
        ]
        return sum(found)


@pytest.fixture(scope="module")
def observed(rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    with new_vhost(rabbitmq) as vhost:
        stack = Stack(vhost.logins, f"sqlite:///{folder / 'datarun.sqlite'}", folder)
        try:
            yield _after_three_folds(stack)
        finally:
            stack.close()


def _after_three_folds(stack: Stack) -> Observed:
    """One succeeds, and its message comes twice; one fails; one cannot be read."""
    ports = dict(zip(("collector", *Role), free_ports(3), strict=True))
    stack.declare_topology()
    services = {
        "collector": stack.start(
            "collector", metrics_port=ports["collector"], log_level="INFO", log_format="auto"
        )
    }
    for role in Role:
        services[role] = stack.start(
            *("worker", "--role", role, "--slots", "2"),
            metrics_port=ports[role],
            log_level="INFO",
            home=stack.folder / role,
        )
    for role in Role:
        services[role].wait_for("worker_ready")
    with stack.client() as client:
        client.publish_data(
            "iris",
            files=[write_iris(stack.folder)],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=WITHIN,
        )
        for fold_id, code, times in ((GOOD, DUMMY, 2), (BAD, BREAKS, 1)):
            message = fold_message(
                fold_id,
                files={"classifier.py": code},
                train_is=list(range(50)),
                test_is=list(range(50, 75)),
            )
            envelope = pack(message, folds_key("default"), message_id=f"run-{fold_id}")
            for _ in range(times):
                _publish(stack, envelope.body, str(envelope.type), f"run-{fold_id}")
                assert len(list(client.follow([fold_id], timeout=WITHIN))) == 1
    _publish(stack, b'{"submission_fold_id": 13}', "datarun.fold.v1", "run-13")
    done = Observed(stack, services, ports)
    wait_until(
        lambda: (
            "message_ignored" in services["collector"].log
            and "dead_letter_seen" in services["collector"].log
            and "fold_duplicate" in services[Role.FOLDS].log
        ),
        within=WITHIN,
        what="word of what changed nothing",
    )
    return done


def _publish(stack: Stack, body: bytes, kind: str, message_id: str) -> None:
    with pika.BlockingConnection(
        pika.URLParameters(stack.logins.of(BrokerUser.PRODUCER))
    ) as connection:
        properties = pika.BasicProperties(
            type=kind, message_id=message_id, timestamp=int(time.time())
        )
        connection.channel().basic_publish(WORK, folds_key("default"), body, properties)


def test_every_line_of_a_log_is_an_event_with_an_action(observed: Observed) -> None:
    for name in observed.services:
        for line in observed.lines(name):
            assert {"time", "level", "service", "logger", "message", "action"} <= set(line), line


def test_a_fold_is_followed_from_queue_to_verdict_by_its_run_id(observed: Observed) -> None:
    # Given what all services say of one run
    lines = [
        line
        for name in observed.services
        for line in observed.lines(name)
        if line.get("run_id") == f"run-{BAD}"
    ]

    # When they stand in the order of time
    lines.sort(key=lambda line: line["time"])
    by_action = {line["action"]: line for line in lines}

    # Then they tell its way, each with the ids by which one finds the others
    assert set(by_action) == {"fold_received", "fold_started", "fold_failed", "fold_stored"}
    started, stored = by_action["fold_started"], by_action["fold_stored"]
    assert {line["submission_fold_id"] for line in lines} == {BAD}
    assert started["attempt"] == stored["attempt"] == by_action["fold_failed"]["attempt"]
    assert started["worker"] == stored["worker"]
    assert started["dataset"] == stored["dataset"]
    assert started["dataset"].startswith("iris@")
    assert (stored["state"], stored["kind"], stored["culprit"]) == (
        "ERROR",
        "exception",
        "submission",
    )


def test_a_repeated_message_is_said_to_have_changed_nothing(observed: Observed) -> None:
    # Given a message that came twice, then both services say so of its run
    ignored = [line for line in observed.lines("collector") if line["action"] == "message_ignored"]
    assert f"run-{GOOD}" in {line["run_id"] for line in ignored}
    duplicates = [line for line in observed.lines(Role.FOLDS) if line["action"] == "fold_duplicate"]
    assert [line["run_id"] for line in duplicates] == [f"run-{GOOD}"]


def test_no_log_tells_a_password(observed: Observed) -> None:
    for user in BrokerUser:
        password = pika.URLParameters(observed.stack.logins.of(user)).credentials.password
        for service in observed.services.values():
            assert password not in service.log


def test_workers_count_folds_verdicts_slots_and_the_cache(observed: Observed) -> None:
    def counted(sample: str, **labels: str) -> float:
        return observed.value(Role.FOLDS, sample, **labels)

    assert counted("datarun_folds_total", state="TESTED", kind="", culprit="") == 1
    assert counted("datarun_folds_total", state="ERROR", kind="exception") == 1
    assert counted("datarun_folds_total", culprit="submission") == 1
    assert counted("datarun_deliveries_total", outcome="ended") == 2
    assert counted("datarun_deliveries_total", outcome="duplicate") == 1
    assert counted("datarun_dead_lettered_total") == 1
    assert counted("datarun_fold_seconds_count") == 2
    assert 0 < counted("datarun_fold_seconds_sum") < WITHIN
    # One failed in training.
    for phase, times in (("train", 2), ("validation", 1), ("test", 1)):
        assert counted("datarun_fold_phase_seconds_count", phase=phase) == times
    assert counted("datarun_fold_queue_seconds_count") == 2
    assert 0 <= counted("datarun_fold_queue_seconds_sum") < WITHIN
    assert counted("datarun_slots") == 2
    assert counted("datarun_slots_busy") == 0
    assert counted("datarun_dataset_cache_misses_total") == 1
    assert counted("datarun_dataset_cache_hits_total") == 1
    assert counted("datarun_dataset_cache_evictions_total") == 0
    assert counted("datarun_dataset_cache_bytes") > 1000
    assert counted("datarun_broker_connections") == 1
    assert counted("datarun_broker_reconnects_total") == 0


def test_prepare_worker_counts_data_sets(observed: Observed) -> None:
    assert observed.value(Role.PREPARE, "datarun_datasets_prepared_total", state="READY") == 1
    assert observed.value(Role.PREPARE, "datarun_dataset_prepare_seconds_count") == 1


def test_collector_counts_messages_results_and_what_changed_nothing(observed: Observed) -> None:
    def counted(sample: str, **labels: str) -> float:
        return observed.value("collector", sample, **labels)

    assert counted("datarun_messages_stored_total", type="datarun.fold-tested.v1") == 1
    assert counted("datarun_messages_stored_total", type="datarun.fold-failed.v1") == 1
    assert counted("datarun_messages_stored_total", type="datarun.fold.v1") == 3
    assert counted("datarun_results_total", state="TESTED", kind="", culprit="") == 1
    assert counted("datarun_results_total", kind="exception", culprit="submission") == 1
    # What cannot be read has ended its fold, too.
    assert counted("datarun_results_total", kind="rejected", culprit="publisher") == 1
    assert counted("datarun_messages_ignored_total", reason="late") == 1
    assert counted("datarun_messages_ignored_total", reason="malformed") == 1
    assert counted("datarun_messages_ignored_total", reason="dead_letter") == 1
    assert counted("datarun_dead_letters_total") == 1
    assert counted("datarun_batch_messages_sum") == counted("datarun_messages_stored_total")
    assert counted("datarun_batch_seconds_count") == counted("datarun_batch_messages_count")
    assert counted("datarun_database_failures_total") == 0
    # These are looked up every five seconds.
    wait_until(lambda: counted("datarun_workers") == 2, within=15, what="both workers")
    assert counted("datarun_outbox_messages") == 0
    assert counted("datarun_outbox_oldest_age_seconds") == 0


def test_no_label_is_an_id_or_a_word_of_a_submission(observed: Observed) -> None:
    for port in observed.ports.values():
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        assert "run-1" not in text
        assert "secret sauce" not in text
        assert "iris" not in text


def test_port_that_is_taken_is_named_with_its_setting(observed: Observed) -> None:
    # Given the port of the collector, when a second one asks for it
    port = observed.ports["collector"]
    service = observed.stack.start("collector", metrics_port=port)

    # Then it ends, and its last line says which setting to change
    assert service.process.wait(WITHIN) == 1
    last = json.loads(service.log.splitlines()[-1])
    assert last["action"] == "service_failed"
    assert f"127.0.0.1:{port}" in last["message"]
    assert "DATARUN_METRICS_PORT" in last["message"]
