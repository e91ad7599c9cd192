"""A collector that a test holds in its hand: real AMQP, answers from memory.

For tests of the client alone; the real collector has tests of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, SupportsIndex

import pika
import pytest

from broker.private_node import NodeAddress
from broker.properties import from_pika, to_pika
from schemas.datasets import DatasetReference
from schemas.errors import MessageError
from schemas.events import Measurements
from schemas.frozen import Message
from schemas.messages import AcknowledgeMessage, CancelMessage, DataMessage, FoldMessage
from schemas.permissions import BrokerUser
from schemas.requests import (
    Acknowledged,
    AllottedFold,
    CrossValidateReply,
    CrossValidateRequest,
    DatasetRecord,
    DatasetsReply,
    DatasetsRequest,
    ErrorReply,
    FoldRecord,
    FoldsReply,
    FoldsRequest,
    FoldSummary,
    PartReply,
    PartRequest,
    ResultsReply,
    ResultsRequest,
    StatusReply,
    StatusRequest,
)
from schemas.results import DatasetResult, FoldResult
from schemas.states import DatasetState, FoldState, Phase
from schemas.topology import COLLECTOR_QUEUE, RESULTS, ServerVersion, StreamQueue, topology
from schemas.verdicts import Verdict
from schemas.wire import Envelope, pack, unpack
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost, new_vhost

VERSION = "0123456789abcdef"
CODE = "class Classifier:\n    pass\n"
PAGE = 2
"""Results in one page: small, so that tests see several."""


class ScriptedCollector:
    """Consumes the collector's queue and answers from `datasets`, `records` and `parts`."""

    def __init__(self, url: str) -> None:
        self.datasets: dict[str, DatasetRecord] = {}
        self.on_data: Callable[[DataMessage, str], DatasetRecord | None] = lambda *_: None
        self.on_fold: Callable[[FoldMessage, str], FoldRecord | None] = lambda *_: None
        self.records: dict[int, FoldRecord] = {}
        self.parts: dict[tuple[str, str], list[str]] = {}
        self.received: list[tuple[Envelope, Message]] = []
        self.refusal: str | None = None
        self.database_away = False
        self._url = url
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._consuming = threading.Event()
        self._connection: Any = None
        self._channel: Any = None

    def messages(self, kind: type[Message]) -> list[Any]:
        """What has arrived of this kind."""
        return [message for _, message in self.received if isinstance(message, kind)]

    def start(self) -> None:
        """Consume, until `stop`."""
        self._stop.clear()
        self._consuming.clear()
        self._thread = threading.Thread(target=self._run, name="scripted collector")
        self._thread.start()
        assert self._consuming.wait(20), "the scripted collector does not consume"

    def stop(self) -> None:
        """Leave, as a collector that was killed."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def store(self, record: FoldRecord) -> None:
        """Keep a verdict and say so on `datarun.results`."""
        self._connection.add_callback_threadsafe(lambda: self._store(record))

    def announce(self, record: DatasetRecord) -> None:
        """Keep a data set's outcome and say so on `datarun.results`."""
        self._connection.add_callback_threadsafe(lambda: self._announce(record))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._consume()
            except pika.exceptions.AMQPError:
                # The tests break connections; a collector comes back.
                self._stop.wait(0.1)

    def _consume(self) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(self._url))
        try:
            self._channel = self._connection.channel()
            self._channel.basic_consume(COLLECTOR_QUEUE, self._on_delivery)
            self._consuming.set()
            while not self._stop.is_set():
                self._connection.process_data_events(time_limit=0.02)
        finally:
            if self._connection.is_open:
                self._connection.close()

    def _on_delivery(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        envelope = from_pika(method, properties, body)
        try:
            message = unpack(envelope)
        except MessageError:
            channel.basic_ack(method.delivery_tag)
            return
        self.received.append((envelope, message))
        if isinstance(message, DataMessage):
            outcome = self.on_data(message, envelope.run_id)
            if outcome is not None:
                self._announce(outcome)
        if isinstance(message, FoldMessage):
            result = self.on_fold(message, envelope.run_id)
            if result is not None:
                self._store(result)
        if envelope.reply_to:
            reply = self._answer(message)
            if self.refusal or self.database_away:
                text = self.refusal or "the database is away"
                reply = ErrorReply(message=text, temporary=self.database_away)
            packed = pack(reply, envelope.reply_to, correlation_id=envelope.correlation_id)
            self._publish("", packed)
        channel.basic_ack(method.delivery_tag)

    def _answer(self, message: Message) -> Message:
        match message:
            case DatasetsRequest():
                return DatasetsReply(datasets=tuple(self._chosen(message)))
            case ResultsRequest():
                return self._results(message)
            case PartRequest():
                return PartReply(data=self.parts[message.run_id, message.array][message.index])
            case AcknowledgeMessage():
                return Acknowledged(count=self._acknowledge(message.run_ids))
            case CancelMessage():
                return Acknowledged(count=len(message.submission_fold_ids))
            case CrossValidateRequest():
                return self._cut(message)
            case FoldsRequest():
                return self._folds(message)
            case StatusRequest():
                return StatusReply(
                    folds={FoldState.TODO: 1},
                    new=len(self.records),
                    datasets={DatasetState.READY: len(self.datasets)},
                    workers=(),
                    outbox=0,
                    ignored_events=0,
                    database="sqlite",
                )
        return ErrorReply(message=f"no answer to {message.TYPE} is scripted")

    def _chosen(self, request: DatasetsRequest) -> list[DatasetRecord]:
        return [
            record
            for record in self.datasets.values()
            if request.name in (None, record.name)
            and request.version in (None, record.version)
            and request.message_id in (None, record.message_id)
        ]

    def _results(self, request: ResultsRequest) -> ResultsReply:
        ids = request.submission_fold_ids
        found = [
            record if request.with_predictions else record.model_copy(update=_NO_PREDICTIONS)
            for fold_id, record in sorted(self.records.items())
            if fold_id >= request.cursor
            and request.dataset in (None, record.dataset)
            and (record.new if ids is None else fold_id in ids)
        ]
        cursor = found[PAGE].submission_fold_id if len(found) > PAGE else None
        return ResultsReply(results=tuple(found[:PAGE]), cursor=cursor)

    def _acknowledge(self, run_ids: tuple[str, ...]) -> int:
        acknowledged = [
            record for record in self.records.values() if record.run_id in run_ids and record.new
        ]
        for record in acknowledged:
            self.records[record.submission_fold_id] = record.model_copy(update={"new": False})
        return len(acknowledged)

    def _cut(self, request: CrossValidateRequest) -> Message:
        name = DatasetReference.parse(request.dataset).name
        if name not in self.datasets:
            return ErrorReply(message=f"data set {name!r} is not known")
        n_train = self.datasets[name].n_train or 0
        return CrossValidateReply(
            submission_id=7,
            dataset=f"{name}@{VERSION}",
            n_train=n_train,
            folds=tuple(
                AllottedFold(
                    submission_fold_id=70 + number,
                    test_is=list(range(number, n_train, request.cv)),
                )
                for number in range(request.cv)
            ),
        )

    def _folds(self, request: FoldsRequest) -> FoldsReply:
        chosen = [
            FoldSummary(
                submission_fold_id=message.submission_fold_id,
                submission_id=message.submission_id,
                dataset=message.dataset,
                state=FoldState.TODO,
                new=False,
                priority=message.priority,
                pool=message.pool,
                run_id=envelope.run_id,
                generation=1,
                attempts=0,
                worker=None,
                published_at=datetime.now(UTC),
            )
            for envelope, message in self.received
            if isinstance(message, FoldMessage)
            and message.submission_fold_id > request.after
            and message.submission_fold_id
            in (request.submission_fold_ids or [message.submission_fold_id])
        ]
        chosen.sort(key=lambda fold: fold.submission_fold_id)
        page = min(PAGE, request.limit)
        count = len(chosen) if request.last is not None else None
        chosen = chosen[max(0, len(chosen) - (request.last or len(chosen))) :]
        return FoldsReply(folds=tuple(chosen[:page]), more=len(chosen) > page, count=count)

    def _store(self, record: FoldRecord) -> None:
        self.records[record.submission_fold_id] = record
        result = FoldResult(**{name: getattr(record, name) for name in FoldResult.model_fields})
        key = f"fold.{record.dataset}.{record.submission_fold_id}"
        self._publish(RESULTS, pack(result, key))

    def _announce(self, record: DatasetRecord) -> None:
        self.datasets[record.name] = record
        fields = {name: getattr(record, name) for name in DatasetResult.model_fields}
        self._publish(RESULTS, pack(DatasetResult(**fields), f"data.{record.name}"))

    def _publish(self, exchange: str, envelope: Envelope) -> None:
        self._channel.basic_publish(
            exchange, envelope.routing_key, envelope.body, to_pika(envelope)
        )


_NO_PREDICTIONS = {"full_train_predictions": None, "test_predictions": None}


def a_dataset(name: str = "iris", **changes: Any) -> DatasetRecord:
    """A data set of 6 training and 3 test rows, ready."""
    fields: dict[str, Any] = {
        "message_id": "m1",
        "name": name,
        "state": DatasetState.READY,
        "version": VERSION,
        "n_train": 6,
        "n_test": 3,
        "classes": ["a", "b"],
        "stored_at": datetime.now(UTC),
        "target_column": "species",
        "workflow_elements": "classifier",
        "log_messages": "",
    }
    return DatasetRecord(**fields | changes)


def a_record(fold_id: int, run_id: str = "", **changes: Any) -> FoldRecord:
    """The stored verdict of a fold that succeeded."""
    fields: dict[str, Any] = {
        "run_id": run_id or f"run-{fold_id}",
        "generation": 1,
        "submission_fold_id": fold_id,
        "submission_id": 1,
        "dataset": "iris",
        "version": VERSION,
        "state": FoldState.TESTED,
        "verdict": None,
        "valid_scores": {"accuracy": 0.5 + fold_id / 1000},
        "test_scores": {"accuracy": 0.75},
        "measurements": Measurements(train_time=0.5, train_memory=2048),
        "stored_at": datetime.now(UTC),
        "new": True,
        "log_messages": "",
        "classes": ["a", "b"],
        "full_train_predictions": [[0.5, 0.5]] * 6,
        "test_predictions": [[0.25, 0.75]] * 3,
    }
    return FoldRecord(**fields | changes)


def a_verdict(message: str = "ValueError: no", phase: Phase = Phase.TRAIN) -> Verdict:
    """Why a submission failed."""
    return Verdict(phase=phase, kind="exception", culprit="submission", message=message)


def fold_arguments(fold_id: SupportsIndex = 11, **changes: Any) -> dict[str, Any]:
    """Arguments of publish_fold that are right."""
    arguments: dict[str, Any] = {
        "submission_fold_id": fold_id,
        "submission_id": 1,
        "dataset": "iris",
        "files": {"classifier.py": CODE},
        "train_is": [0, 1, 2, 3],
        "test_is": [4, 5],
    }
    return arguments | changes


def declare(url: str) -> None:
    """The shared topology, as `datarun broker setup` declares it."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        properties = connection._impl.server_properties
        server = ServerVersion.parse(properties["version"])
        shared = topology()
        for exchange in shared.exchanges:
            channel.exchange_declare(exchange.name, exchange.type, durable=True)
        for queue in shared.queues:
            channel.queue_declare(
                queue.name, durable=queue.durable, arguments=queue.arguments(server)
            )
        for binding in shared.bindings:
            channel.queue_bind(binding.queue, binding.exchange, binding.key)


@pytest.fixture
def declared(vhost: Vhost) -> Vhost:
    """A virtual host on which an administrator has declared the shared topology."""
    declare(vhost.logins.admin)
    return vhost


@pytest.fixture(scope="module")
def shared_vhost(rabbitmq: NodeAddress) -> Iterator[Vhost]:
    """The same for all tests of a file: to make one and delete it takes longer than many a test."""
    with new_vhost(rabbitmq) as vhost:
        declare(vhost.logins.admin)
        yield vhost


@pytest.fixture(name="declared")
def declared_once(shared_vhost: Vhost) -> Vhost:
    """In the place of `declared`, for files that import it: no message is in its queues.

    Not where a test leaves connections that are half dead, or reads the control stream.
    """
    with pika.BlockingConnection(pika.URLParameters(shared_vhost.logins.admin)) as connection:
        channel = connection.channel()
        for queue in topology().queues:
            if not isinstance(queue, StreamQueue):
                channel.queue_purge(queue.name)
    return shared_vhost


@pytest.fixture
def broker_url(declared: Vhost) -> str:
    """Such a virtual host, as a producer."""
    return declared.logins.of(BrokerUser.PRODUCER)


@pytest.fixture
def scripted_collector(declared: Vhost) -> Iterator[ScriptedCollector]:
    """Consuming, as the collector; knows the data set iris of 6 training rows."""
    collector = ScriptedCollector(declared.logins.of(BrokerUser.COLLECTOR))
    collector.datasets["iris"] = a_dataset()
    collector.start()
    yield collector
    collector.stop()


def wait_for(collector: ScriptedCollector, kind: type[Message], count: int = 1) -> list[Any]:
    """Wait until so many messages of this kind have arrived."""
    wait_until(lambda: len(collector.messages(kind)) >= count, what=f"{count} x {kind.TYPE}")
    return collector.messages(kind)
