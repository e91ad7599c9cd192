"""Data sets whose parts are in an object store that goes away: nothing is lost, nothing is doubled.

One stack for all tests of the file; the store is there when a test begins and when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from broker.private_node import NodeAddress
from datarun import HoldOut
from schemas.states import Culprit, FailureKind, FoldState, Role
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost, new_vhost
from tests.support.s3 import S3Server, s3_server
from tests.support.stack import Service, Stack
from tests.support.submissions import DUMMY, FOREST, write_iris

__all__ = ["s3_server"]

WITHIN = 60


class StoreStack:
    """A running stack whose parts are in an S3 server."""

    def __init__(self, stack: Stack, vhost: Vhost, s3: S3Server) -> None:
        self.stack, self.vhost, self.s3 = stack, vhost, s3
        # It waits for a data set more shortly than the store is away: that must not count.
        self.settings = {"blobs": s3.url, "dataset_wait_seconds": 1}
        stack.start_all(slots=1, **self.settings)
        self.collector, *workers = stack.services
        self.worker: dict[Role, Service] = dict(zip(Role, workers, strict=True))
        self.client = stack.client()
        self.csv = write_iris(stack.folder)
        self._threads = ThreadPoolExecutor()

    def table(self, name: str) -> pd.DataFrame:
        """iris with rows in an order that the name alone has."""
        return pd.read_csv(self.csv).sample(frac=1, random_state=sum(name.encode()))

    def publish(self, name: str) -> Future[Any]:
        """Publish a data set, in a thread that waits until it is ready."""
        return self._threads.submit(
            self.client.publish_data,
            name,
            files={"iris.csv": self.table(name).to_csv(index=False)},
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5, random_state=42),
            timeout=WITHIN,
        )

    def fold(self, number: int, dataset: str, source: str = DUMMY) -> None:
        self.client.publish_fold(
            submission_fold_id=number,
            submission_id=1,
            dataset=dataset,
            files={"classifier.py": source},
            train_is=np.arange(60),
            test_is=np.arange(60, 75),
        )

    def result(self, number: int) -> Any:
        (result,) = self.client.follow([number], timeout=WITHIN)
        return result

    def runs(self, number: int) -> list[tuple[int, str]]:
        """Generation and state of each run of a fold, from the database itself."""
        query = f"SELECT generation, state FROM runs WHERE submission_fold_id = {number}"
        return [tuple(row) for row in self.stack.rows(query)]

    def streams(self) -> set[str]:
        """Parts that are in RabbitMQ."""
        queues = self.vhost.api("GET", f"/api/queues/{self.vhost.name}").json()
        return {queue["name"] for queue in queues if queue["name"].startswith("datarun.blob.")}

    def close(self) -> None:
        self.client.close()
        self.stack.close()
        self._threads.shutdown()


@pytest.fixture(scope="module")
def running(
    rabbitmq: NodeAddress, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StoreStack]:
    folder = tmp_path_factory.mktemp("stack")
    with new_vhost(rabbitmq) as vhost, pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.environment.items():
            environment.setenv(name, value)
        stack = Stack(vhost.logins, f"sqlite:///{folder / 'datarun.sqlite'}", folder)
        made = None
        try:
            made = StoreStack(stack, vhost, s3_server)
            yield made
        finally:
            (made or stack).close()


@pytest.fixture(scope="module")
def here(running: StoreStack) -> Any:
    """A data set that the folds worker has already."""
    dataset = running.publish("here").result()
    running.fold(1, "here", FOREST)
    assert running.result(1).state is FoldState.TESTED
    return dataset


def test_a_data_set_goes_through_the_store_and_its_folds_are_scored(
    running: StoreStack, here: Any
) -> None:
    # Given a data set that was published with the store on, and a forest tested on it
    result = running.result(1)

    # Then its predictions and scores are those of the same forest trained here
    train, test = train_test_split(running.table("here"), test_size=0.5, random_state=42)
    X, y = train.drop(columns="species").to_numpy(), train["species"].to_numpy()
    forest = RandomForestClassifier(n_estimators=10, random_state=0).fit(X[:60], y[:60])
    X_test = test.drop(columns="species").to_numpy()
    np.testing.assert_allclose(result.test_predictions, forest.predict_proba(X_test))
    assert result.test_scores["accuracy"] == pytest.approx(
        forest.score(X_test, test["species"].to_numpy())
    )

    # And its parts are in the store, by visibility, and no stream is left
    parts = sorted(name.split("/")[0] for name in running.s3.files())
    assert parts == ["public", "public", "public", "secret"]
    assert running.streams() == set()


def test_store_away_while_a_data_set_is_prepared_and_then_fetched(
    running: StoreStack, here: Any
) -> None:
    # Given a store that is killed before the parts of a data set can be written
    prepare, folds = running.worker[Role.PREPARE], running.worker[Role.FOLDS]
    running.s3.kill()
    coming = running.publish("away")
    prepare.wait_for('"action": "store_away"')

    # When it comes back, the data set is ready
    running.s3.start()
    assert coming.result().n_train == 75

    # Given a fold whose data set is in a store that is away again
    running.s3.kill()
    running.fold(2, "away")
    folds.wait_for('"action": "fold_waits"')

    # Then a fold whose data set is here does not wait for that
    running.fold(3, "here")
    assert running.result(3).state is FoldState.TESTED

    # And when the store comes back, long after the fold's own patience, it is tested, once
    assert running.runs(2) == [(1, "TODO")]
    running.s3.start()
    assert running.result(2).state is FoldState.TESTED
    assert running.runs(2) == [(1, "TESTED")]


def test_store_away_before_the_labels_are_read_holds_up_nothing_else(
    running: StoreStack, here: Any
) -> None:
    # Given a data set that was prepared while there was no collector
    running.collector.stop()
    prepared = running.worker[Role.PREPARE].log.count('"action": "data_ready"')
    coming = running.publish("unread")
    wait_until(
        lambda: running.worker[Role.PREPARE].log.count('"action": "data_ready"') > prepared,
        what="a data set prepared",
    )

    # When the collector comes back, and the store is away
    running.s3.kill()
    running.collector = running.stack.start_collector(**running.settings)
    running.collector.wait_for('"action": "dataset_held"')

    # Then folds of other data sets are scored
    running.fold(4, "here")
    assert running.result(4).test_scores
    assert not coming.done()

    # And this one is ready when the store is, and so are its scores
    running.s3.start()
    coming.result()
    running.fold(5, "unread")
    assert running.result(5).test_scores
    assert running.runs(5) == [(1, "TESTED")]


def test_an_altered_part_is_refused_and_is_the_installations_fault(
    running: StoreStack, here: Any
) -> None:
    # Given a data set, one of whose parts is not what it was
    before = running.s3.files()
    running.publish("altered").result()
    new = running.s3.files() - before
    parts = [running.s3.path(name) for name in new if name.startswith("public/")]
    part = max(parts, key=lambda part: part.stat().st_size)
    part.write_bytes(part.read_bytes()[:-1] + b"?")

    # When a fold wants it
    running.fold(6, "altered")
    verdict = running.result(6).verdict

    # Then it fails, after some patience, and says why
    assert (verdict.kind, verdict.culprit) == (FailureKind.DATA, Culprit.INFRASTRUCTURE)
    assert "it is altered: its SHA-256 is not the announced one" in verdict.message
    assert f"public/{part.name}" in verdict.message
