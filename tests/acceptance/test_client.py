"""The client with the real collector and real workers: what is not seen with a scripted one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarun import Client, Dataset, FoldState, HoldOut, Result
from tests.support.deadline import wait_until
from tests.support.stack import Stack
from tests.support.submissions import DUMMY, write_iris

WITHIN = 60
SLEEPS = """
import time

class Classifier:
    def fit(self, X, y):
        time.sleep(60)
"""
FAILS = """
class Classifier:
    def fit(self, X, y):
        raise ValueError("on purpose")
"""

_ids = itertools.count(100)


@pytest.fixture(scope="module")
def iris(shared_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The data set iris on the running stack."""
    return publish_iris(shared_stack, tmp_path_factory.mktemp("iris"))


@pytest.fixture
def client(shared_stack: Stack) -> Iterator[Client]:
    """A client of the running stack."""
    with shared_stack.client() as client:
        yield client


def publish_iris(stack: Stack, folder: Path, name: str = "iris") -> Dataset:
    """iris under a name of its own."""
    with stack.client() as client:
        return client.publish_data(
            name,
            files=[write_iris(folder)],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=WITHIN,
        )


def a_fold(dataset: str | Dataset, code: str = DUMMY, **changes: Any) -> dict[str, Any]:
    """Arguments of publish_fold, with an id of its own."""
    arguments: dict[str, Any] = {
        "submission_fold_id": next(_ids),
        "submission_id": 1,
        "dataset": dataset,
        "files": {"classifier.py": code},
        "train_is": np.arange(50),
        "test_is": np.arange(50, 75),
    }
    return arguments | changes


def one(results: Iterator[Result]) -> Result:
    """The only result there is."""
    (result,) = results
    return result


def test_a_fold_run_again_by_force_shows_its_new_run_and_is_new_again(
    client: Client, iris: Dataset
) -> None:
    # Given a fold that failed, and was acknowledged
    fold = a_fold(iris, FAILS)
    fold_id = fold["submission_fold_id"]
    client.publish_fold(**fold)
    former = one(client.follow([fold_id], timeout=WITHIN))
    assert former.state is FoldState.ERROR
    assert former.log_messages.endswith("ERROR(train)")
    former.acknowledge()

    # When it is published again by force with code that works, and followed at once
    run_id = client.publish_fold(**fold | {"files": {"classifier.py": DUMMY}, "force": True})
    result = one(client.follow([fold_id], timeout=WITHIN))

    # Then it is the new run's verdict that comes, and nobody has acknowledged that one
    assert result.run_id == run_id
    assert result.state is FoldState.TESTED
    assert fold_id in {new.submission_fold_id for new in client.new_results(dataset=iris)}
    result.acknowledge()
    assert fold_id not in {new.submission_fold_id for new in client.new_results(dataset=iris)}


def test_a_fold_published_twice_without_force_keeps_its_first_verdict(
    client: Client, iris: Dataset
) -> None:
    fold = a_fold(iris)
    first = client.publish_fold(**fold)
    one(client.follow([fold["submission_fold_id"]], timeout=WITHIN))

    second = client.publish_fold(**fold)
    result = one(client.follow([fold["submission_fold_id"]], timeout=WITHIN))

    assert second != first
    assert result.run_id == first
    assert result.state is FoldState.TESTED


def test_a_cancelled_fold_is_followed_to_its_verdict(client: Client, iris: Dataset) -> None:
    # Given a fold that is running
    fold = a_fold(iris, SLEEPS)
    fold_id = fold["submission_fold_id"]
    client.publish_fold(**fold)
    wait_until(lambda: next(iter(client.folds([fold_id]))).worker, what="a worker to begin")

    # When it is cancelled
    assert client.cancel([fold_id]) == 1

    # Then following it ends
    result = one(client.follow([fold_id], timeout=WITHIN))
    assert result.state is FoldState.CANCELLED
    assert result.verdict is not None
    assert client.cancel([fold_id]) == 0


def test_a_file_that_the_workflow_does_not_use_is_a_warning(client: Client, iris: Dataset) -> None:
    files = {"classifier.py": DUMMY, "feature_extractor.py": "", "notes.py": ""}
    with pytest.warns(UserWarning, match=r"^feature_extractor\.py: not an element") as warned:
        submission = client.submit(files, iris, cv=2)
    assert [warning.filename for warning in warned] == [__file__]
    assert len(list(client.follow(submission.fold_ids, timeout=WITHIN))) == 2


def test_folds_published_before_their_data_set_wait_for_it(
    shared_stack: Stack, client: Client, tmp_path: Path
) -> None:
    # Given a fold for a data set that nobody knows yet
    fold = a_fold("later")
    client.publish_fold(**fold)

    # When the data set is published
    later = publish_iris(shared_stack, tmp_path, "later")

    # Then the fold runs on it
    result = one(client.follow([fold["submission_fold_id"]], timeout=WITHIN))
    assert result.state is FoldState.TESTED
    assert (result.dataset, result.version) == ("later", later.version)


def test_two_clients_in_threads_publish_and_follow_without_mixing(
    shared_stack: Stack, iris: Dataset
) -> None:
    # Given two threads that share a client, and publish and follow folds of their own
    followed: dict[int, list[Result]] = {}
    published: dict[int, list[str]] = {}
    with shared_stack.client() as client:

        def work(number: int) -> None:
            folds = [a_fold(iris, submission_id=number) for _ in range(10)]
            published[number] = client.publish_folds(folds)
            ids = [fold["submission_fold_id"] for fold in folds]
            followed[number] = list(client.follow(ids, timeout=WITHIN))

        threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WITHIN)

    # Then each got the verdicts of its own, each once
    for number in (1, 2):
        assert {result.submission_id for result in followed[number]} == {number}
        assert sorted(r.run_id for r in followed[number]) == sorted(published[number])


def test_following_what_is_new_sees_a_fold_of_somebody_else(
    shared_stack: Stack, client: Client, iris: Dataset
) -> None:
    # Given a client that follows what is new, up to date
    for result in client.new_results(dataset="iris"):
        result.acknowledge()
    seen: list[Result] = []
    done = threading.Event()

    def listen() -> None:
        for result in client.new_results(dataset="iris", follow=True, timeout=WITHIN):
            seen.append(result)
            result.acknowledge()
            done.set()
            return

    listening = threading.Thread(target=listen)
    listening.start()

    # When another client publishes a fold
    with shared_stack.client() as other:
        fold = a_fold(iris)
        other.publish_fold(**fold)
        one(other.follow([fold["submission_fold_id"]], timeout=WITHIN))

    # Then it is seen, and acknowledged
    listening.join(WITHIN)
    assert [result.submission_fold_id for result in seen] == [fold["submission_fold_id"]]
    assert list(client.new_results(dataset="iris")) == []


def test_a_data_set_published_again_is_what_its_name_means_at_once(
    shared_stack: Stack, tmp_path: Path
) -> None:
    # Given a data set, and a client that has published a fold on it
    first = publish_iris(shared_stack, tmp_path, "flowers")
    with shared_stack.client() as client:
        client.publish_fold(**a_fold("flowers"))

        # When the same client publishes it anew with another split, and a fold right after
        second = client.publish_data(
            "flowers",
            files=[write_iris(tmp_path)],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.4),
            timeout=WITHIN,
        )
        fold, old = a_fold("flowers"), a_fold(first)
        client.publish_folds([fold, old])
        ids = [fold["submission_fold_id"], old["submission_fold_id"]]
        versions = {r.submission_fold_id: r.version for r in client.follow(ids, timeout=WITHIN)}

    # Then the name means the new version, and the object still the old one
    assert first.version != second.version
    assert versions == {ids[0]: second.version, ids[1]: first.version}
