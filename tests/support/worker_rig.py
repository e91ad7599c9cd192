"""What surrounds a worker: the data sets and folds it is given, the events it publishes.

The test itself stands where the collector would: it reads the collector's queue.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from sklearn.datasets import load_iris

from broker.blobs import write_blob
from broker.link import Link
from broker.properties import from_pika
from broker.setup import declare_topology
from schemas.arrays import Array
from schemas.control import DatasetAnnounced, RunCancelled
from schemas.datasets import HoldOut, Manifest, Part
from schemas.events import FoldEvent, FoldFailed, FoldStarted, FoldTested, WorkerHeartbeat
from schemas.frozen import Message
from schemas.messages import FoldMessage, Limits
from schemas.permissions import BrokerUser
from schemas.results import FoldResult
from schemas.states import FoldState, Priority, Role, Visibility
from schemas.topology import (
    COLLECTOR_QUEUE,
    CONTROL,
    DEAD_LETTERS_QUEUE,
    EVENTS,
    KEY_HEARTBEAT,
    RESULTS,
    SERVER_NAMED,
    WORK,
    folds_key,
    folds_queue,
    topology,
    waiting_queue,
)
from schemas.verdicts import Verdict
from schemas.wire import Envelope, pack, unpack
from tests.support.deadline import wait_until
from tests.support.played import sender_of
from tests.support.rabbitmq import Logins, Vhost
from tests.support.worker_process import WorkerProcess

POOL = "default"
N_TRAIN, N_TEST = 75, 75
UNIFORM = """
import time
import numpy as np

SLEEP = {sleep}

class Classifier:
    def fit(self, X, y):
        time.sleep(SLEEP)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
"""
RANDOM = """
import numpy as np

class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        probas = np.random.default_rng(len(X)).random((len(X), 3))
        return probas / probas.sum(axis=1, keepdims=True)
"""
QUICK = UNIFORM.format(sleep=0)
SLOW = UNIFORM.format(sleep=30)

E = TypeVar("E", bound=Message)


class WorkerRig:
    """A declared virtual host, and everything that surrounds workers.

    Workers log in as their users, and so does the test for each that it plays: producer, collector,
    preparer and observer. As an administrator it only declares what is shared and does what an
    operator does: types into the management console, counts, takes dead letters.
    """

    def __init__(self, vhost: Vhost, folder: Path) -> None:
        self.vhost = vhost
        self.folder = folder
        self.events: list[Message] = []
        self.workers: list[WorkerProcess] = []
        asyncio.run(self._declare())
        self.reconnect()

    def reconnect(self) -> None:
        """Open the test's own connections."""
        logins = self.vhost.logins
        self._administrator = _channel(logins.admin)
        self._producer, self._collector, self._observer = (
            _channel(logins.of(user))
            for user in (BrokerUser.PRODUCER, BrokerUser.COLLECTOR, BrokerUser.OBSERVER)
        )
        declared = self._observer.queue_declare(SERVER_NAMED, exclusive=True)
        self._heartbeats = declared.method.queue
        self._observer.queue_bind(self._heartbeats, EVENTS, KEY_HEARTBEAT)

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.disconnect()

    def worker(
        self, role: Role = Role.FOLDS, *, logins: Logins | None = None, **settings: object
    ) -> WorkerProcess:
        """Start one, and wait until it takes work."""
        url = (logins or self.vhost.logins).of(BrokerUser.of_worker(role))
        worker = WorkerProcess(role, url, self.folder, **settings)
        self.workers.append(worker)
        return worker.wait_ready()

    def disconnect(self) -> None:
        """Close the test's own connections."""
        for channel in (self._administrator, self._producer, self._collector, self._observer):
            channel.connection.close()

    def announce(self, name: str = "iris", *, copies: int = 1) -> Manifest:
        """Store iris, half of it for training, as data set `name`, and announce it.

        copies: how many times each row stands there.
        """
        X, y = load_iris(return_X_y=True)
        rows = np.random.default_rng(0).permutation(150)
        train, test = np.tile(rows[:75], copies), np.tile(rows[75:], copies)
        arrays = {"X_train": X[train], "y_train": y[train], "X_test": X[test]}
        manifest = Manifest(
            name=name,
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            n_train=75 * copies,
            n_test=75 * copies,
            columns=("a", "b", "c", "d"),
            classes=Array.of([0, 1, 2]),
            parts=tuple(self._store_part(part, array, name) for part, array in arrays.items()),
        )
        self.control(DatasetAnnounced(name=name, manifest=manifest, at=datetime.now(UTC)))
        return manifest

    def announce_failure(self, name: str, verdict: Verdict) -> None:
        """The control stream says that the data set could not be prepared."""
        at = datetime.now(UTC)
        self.control(DatasetAnnounced(name=name, manifest=None, verdict=verdict, at=at))

    def cancel(self, run_id: str, fold_id: int) -> None:
        """The control stream says that the run is cancelled."""
        at = datetime.now(UTC)
        self.control(
            RunCancelled(run_id=run_id, submission_fold_id=fold_id, reason="asked for", at=at)
        )

    def control(self, message: DatasetAnnounced | RunCancelled) -> None:
        self.publish(CONTROL, pack(message, "dataset"))

    def fold(
        self,
        fold_id: int,
        source: str,
        *,
        dataset: str = "iris",
        train_is: list[int] | None = None,
        priority: Priority = Priority.L,
        limits: Limits | None = None,
    ) -> str:
        """Publish a fold; return its run id."""
        message = FoldMessage(
            submission_fold_id=fold_id,
            submission_id=1,
            dataset=dataset,
            files={"classifier.py": source},
            train_is=Array.of(train_is or list(range(50))),
            test_is=Array.of(list(range(50, 75))),
            priority=priority,
            limits=limits or Limits(),
        )
        envelope = pack(message, folds_key(POOL))
        self.publish(WORK, envelope)
        return envelope.run_id

    def publish(self, exchange: str, envelope: Envelope, *, mandatory: bool = True) -> None:
        """By whoever publishes such messages: the producer or the collector."""
        sender = sender_of(exchange, envelope.routing_key)
        channel = self._producer if sender is BrokerUser.PRODUCER else self._collector
        channel.basic_publish(
            exchange,
            envelope.routing_key,
            envelope.body,
            pika.BasicProperties(
                type=envelope.type,
                message_id=envelope.message_id,
                priority=envelope.priority,
                delivery_mode=2,
            ),
            mandatory=mandatory,
        )

    def publish_bare(self, exchange: str, key: str, body: bytes | str) -> None:
        """As an administrator does in the management console: no properties at all."""
        self._administrator.basic_publish(
            exchange, key, body if isinstance(body, bytes) else body.encode()
        )

    def read(self) -> list[Message]:
        """Everything published so far, by workers and by this test, as the collector sees it."""
        for envelope in _take(self._collector, COLLECTOR_QUEUE):
            if envelope.exchange == EVENTS:
                event = unpack(envelope)
                self.events.append(event)
                if isinstance(event, FoldTested | FoldFailed):
                    self._store(event)
        return self.events

    def of(self, kind: type[E], fold_id: int | None = None) -> list[E]:
        """The events of one kind so far."""
        return [
            event
            for event in self.read()
            if isinstance(event, kind)
            and (fold_id is None or getattr(event, "submission_fold_id", None) == fold_id)
        ]

    def wait_for(self, kind: type[E], fold_id: int | None = None, *, within: float = 30) -> E:
        """The first event of that kind."""
        logs = [str(worker.log) for worker in self.workers]
        what = f"{kind.__name__} of {fold_id} (logs: {logs})"
        return wait_until(lambda: self.of(kind, fold_id), within=within, what=what)[0]

    def wait_for_heartbeat(self, worker: str, *, of: str) -> None:
        """Until that worker has said, to the others as well, that it runs this run."""

        def said() -> bool:
            beats = [unpack(envelope) for envelope in _take(self._observer, self._heartbeats)]
            return any(
                isinstance(beat, WorkerHeartbeat)
                and beat.worker == worker
                and of in {fold.run_id for fold in beat.running}
                for beat in beats
            )

        wait_until(said, what=f"a heartbeat of {worker} with run {of}")

    def attempts(self, fold_id: int) -> int:
        """How many times the fold was started. (An event may come twice.)"""
        return len({event.attempt_id for event in self.of(FoldStarted, fold_id)})

    def story(self, fold_id: int) -> list[str]:
        """The events of a fold by name, in the order of arrival."""
        return [
            type(event).__name__
            for event in self.read()
            if isinstance(event, FoldEvent) and event.submission_fold_id == fold_id
        ]

    def dead_letters(self) -> list[Envelope]:
        return list(_take(self._administrator, DEAD_LETTERS_QUEUE))

    def depth(self, queue: str) -> int:
        """Messages that are ready."""
        return int(self._administrator.queue_declare(queue, passive=True).method.message_count)

    def wait_empty(self) -> None:
        """No fold waits anywhere, also when the workers have let go of what they held."""
        wait_until(self._nothing_is_ready, what="the end of waiting folds")
        self.stop_workers()
        assert self._nothing_is_ready()

    def _nothing_is_ready(self) -> bool:
        self.read()
        return not self.depth(folds_queue(POOL)) and not self.depth(waiting_queue(POOL))

    def stop_workers(self) -> None:
        """Whatever a worker had not acked is in its queue afterwards."""
        for worker in self.workers:
            worker.end()

    def _store(self, event: FoldTested | FoldFailed) -> None:
        """Say, as the collector does, that this verdict is stored."""
        result = FoldResult(
            run_id=event.run_id,
            generation=1,
            submission_fold_id=event.submission_fold_id,
            submission_id=1,
            dataset="iris",
            version=None,
            state=FoldState.TESTED if isinstance(event, FoldTested) else FoldState.ERROR,
            verdict=None,
            valid_scores={},
            test_scores={},
            measurements=event.measurements,
            stored_at=datetime.now(UTC),
        )
        # Nobody may be listening.
        self.publish(
            RESULTS, pack(result, f"fold.iris.{event.submission_fold_id}"), mandatory=False
        )

    async def _declare(self) -> None:
        async with Link(self.vhost.logins.admin, name="test") as link:
            await declare_topology(link, topology())

    def _store_part(self, name: str, array: npt.NDArray[Any], salt: str) -> Part:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        blob = f"{salt}-{name}"
        preparer = self.vhost.logins.of(BrokerUser.PREPARER)
        size, sha256 = write_blob(preparer, Visibility.PUBLIC, blob, buffer.getvalue())
        return Part(
            name=name,
            format="npy",
            visibility=Visibility.PUBLIC,
            size=size,
            sha256=sha256,
            blob=blob,
        )


def _channel(url: str) -> BlockingChannel:
    """One of a connection of its own, on which publishing is confirmed."""
    # Nobody serves it between two calls.
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    channel = pika.BlockingConnection(parameters).channel()
    channel.confirm_delivery()
    return channel


def _take(channel: BlockingChannel, queue: str) -> Iterator[Envelope]:
    """Take away every message that is ready in a queue."""
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return
        assert properties is not None
        assert body is not None
        yield from_pika(method, properties, body)


@pytest.fixture
def rig(vhost: Vhost, tmp_path: Path) -> Iterator[WorkerRig]:
    """A virtual host ready for workers; those that the test starts end with it."""
    rig = WorkerRig(vhost, tmp_path)
    try:
        yield rig
    finally:
        rig.close()
