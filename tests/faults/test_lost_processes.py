"""Whatever dies on the way, every published fold ends in exactly one stored verdict."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from broker.private_node import NodeAddress
from datarun import Client, Custom, DataError, HoldOut
from schemas.states import FoldState
from schemas.topology import folds_queue
from tests.support.deadline import wait_until
from tests.support.rabbitmq import new_vhost
from tests.support.stack import Service, Stack
from tests.support.submissions import DUMMY, WAITS_FOR_A_FILE, write_iris

WITHIN = 60


@pytest.fixture(scope="module")
def shared(rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A collector that has iris, for all tests; each uses ids of its own."""
    folder = tmp_path_factory.mktemp("stack")
    with new_vhost(rabbitmq) as vhost:
        stack = Stack(vhost.logins, f"sqlite:///{folder / 'datarun.sqlite'}", folder)
        try:
            stack.declare_topology()
            stack.start_collector()
            prepare = stack.start_worker("prepare")
            with stack.client() as client:
                client.publish_data(
                    "iris",
                    files=[write_iris(folder)],
                    target_column="species",
                    workflow_elements="classifier",
                    split=HoldOut(0.5),
                    timeout=WITHIN,
                )
            prepare.stop()
            yield stack
        finally:
            stack.close()


@pytest.fixture
def stack(shared: Stack) -> Iterator[Stack]:
    """The same, in which the workers of each test end with it."""
    yield shared
    for service in shared.services:
        if "worker" in service.process.args and service.process.poll() is None:
            service.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    """A client, with iris ready and no worker."""
    with stack.client() as client:
        yield client


class Waiting:
    """A submission whose `fit` waits for a word of the test."""

    def __init__(self, folder: Path, name: str = "fit") -> None:
        self.started = folder / f"{name}-started"
        self.go = folder / f"{name}-go"
        self.code = WAITS_FOR_A_FILE.format(started=str(self.started), go=str(self.go))

    def wait_until_training(self) -> None:
        wait_until(self.started.exists, within=WITHIN, what="the beginning of fit")

    def go_on(self) -> None:
        self.go.touch()


@pytest.fixture
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Waiting:
    folder = tmp_path_factory.mktemp("shared")
    # Folds may run as another user.
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o777)
    return Waiting(folder)


def publish(client: Client, fold_id: int, code: str) -> str:
    return client.publish_fold(
        submission_fold_id=fold_id,
        submission_id=1,
        dataset="iris",
        files={"classifier.py": code},
        train_is=np.arange(50),
        test_is=np.arange(50, 75),
    )


def stored_verdicts(stack: Stack, fold_id: int) -> list[str]:
    """The states of all runs that are stored for a fold, read from the database itself."""
    rows = stack.rows(f"select state from runs where submission_fold_id = {fold_id}")
    return [row.state for row in rows]


def wait_for_an_empty_queue(client: Client) -> None:
    def empty() -> bool:
        queue = folds_queue("default")
        depth = client.queue_depths([queue])[queue]
        return depth is not None and depth.messages == 0

    wait_until(empty, within=WITHIN, what="an empty folds queue")


def test_worker_killed_in_training_leaves_exactly_one_verdict(
    stack: Stack, client: Client, waiting: Waiting
) -> None:
    # Given a fold in training
    first = stack.start_worker("folds", slots=1)
    publish(client, 1, waiting.code)
    waiting.wait_until_training()

    # When its worker is killed without warning and another one takes over
    first.kill()
    second = stack.start_worker("folds", slots=1)
    waiting.go_on()
    [result] = client.follow([1], timeout=WITHIN)

    # Then one verdict is stored, and the queue is empty
    assert result.state is FoldState.TESTED, result.log_messages
    assert second.stop() == 0
    assert stored_verdicts(stack, 1) == ["TESTED"]
    wait_for_an_empty_queue(client)


@pytest.mark.slow
def test_a_fold_that_kills_every_worker_is_given_up(stack: Stack, client: Client) -> None:
    # Given a submission under which its worker dies, each time
    kills_worker = (
        "import os, signal, psutil\n"
        "class Classifier:\n"
        "    def fit(self, X, y):\n"
        "        for parent in psutil.Process().parents():\n"
        "            if 'worker' in parent.cmdline():\n"
        "                parent.kill()\n"
    )
    publish(client, 2, kills_worker)

    # When workers are started again and again, as a supervisor would
    for _ in range(6):
        worker = stack.start("worker", "--role", "folds", "--slots", "1", home=stack.folder / "w")

        def over(worker=worker) -> bool:
            return worker.process.poll() is not None or stored_verdicts(stack, 2) == ["ERROR"]

        wait_until(over, within=WITHIN, what="the end of the worker or of the fold")
        if worker.process.poll() is None:
            break

    # Then the fold ends, and says why
    [result] = client.follow([2], timeout=WITHIN)
    assert result.state is FoldState.ERROR
    assert result.verdict.kind == "worker_lost"
    assert result.verdict.culprit == "infrastructure"
    wait_for_an_empty_queue(client)


def test_collector_killed_while_results_come_in_loses_none(stack: Stack, client: Client) -> None:
    # Given forty folds on their way
    ids = range(100, 140)
    stack.start_worker("folds", slots=2)
    for fold_id in ids:
        publish(client, fold_id, DUMMY)

    # When a second collector stands by and the first is killed among the results
    stack.start("collector")
    first = next(service for service in stack.services if "collector" in service.process.args)
    wait_until(
        lambda: any(stored_verdicts(stack, fold_id) == ["TESTED"] for fold_id in ids),
        within=WITHIN,
        what="a first result",
    )
    first.kill()

    # Then the other stores all of them, each once
    results = list(client.follow(ids, timeout=WITHIN))
    assert {result.state for result in results} == {FoldState.TESTED}
    assert all(stored_verdicts(stack, fold_id) == ["TESTED"] for fold_id in ids)


def test_a_worker_told_to_stop_gives_its_fold_back(
    stack: Stack, client: Client, waiting: Waiting
) -> None:
    first = stack.start_worker("folds", slots=1, grace_seconds=0)
    publish(client, 3, waiting.code)
    waiting.wait_until_training()
    assert first.stop() == 0

    # Then another one finishes it, and the attempt does not count as a death
    stack.start_worker("folds", slots=1, max_attempts=1)
    waiting.go_on()
    [result] = client.follow([3], timeout=WITHIN)
    assert result.state is FoldState.TESTED
    assert stored_verdicts(stack, 3) == ["TESTED"]


def test_a_data_set_that_kills_every_prepare_worker_is_given_up(
    stack: Stack, client: Client
) -> None:
    # Given an organiser's file under which its worker dies, each time
    kills_worker = (
        "import psutil\n"
        "def prepare_data(raw_data_path):\n"
        "    for parent in psutil.Process().parents():\n"
        "        if 'worker' in parent.cmdline():\n"
        "            parent.kill()\n"
        "def get_train_data(raw_data_path): pass\n"
        "def get_test_data(raw_data_path): pass\n"
        "def train_submission(module_path, X, y, train_indices): pass\n"
        "def test_submission(trained_model, X, test_indices): pass\n"
    )
    with ThreadPoolExecutor() as threads:
        publishing = threads.submit(
            client.publish_data,
            "deadly",
            files={"specific.py": kills_worker},
            workflow_elements="classifier",
            split=Custom("specific.py"),
            timeout=WITHIN,
        )

        # When workers are started again and again, as a supervisor would
        for _ in range(4):
            worker = stack.start("worker", "--role", "prepare", max_attempts=2)

            def over(worker: Service = worker) -> bool:
                return worker.process.poll() is not None or publishing.done()

            wait_until(over, within=WITHIN, what="the end of the worker or of the data set")
            if publishing.done():
                break

        # Then the data set fails, and says why
        with pytest.raises(DataError, match="2 prepare workers died") as caught:
            publishing.result(timeout=WITHIN)
    assert caught.value.verdict.culprit == "infrastructure"
