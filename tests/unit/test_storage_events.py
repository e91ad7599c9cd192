"""Events of folds: in whatever order, however often, from however many attempts."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from schemas.arrays import Array
from schemas.control import RunCancelled
from schemas.events import FoldPart, Measurements
from schemas.frozen import Message
from schemas.requests import PartReply, PartRequest
from schemas.results import FoldResult
from schemas.states import Culprit, FailureKind, FoldState
from schemas.wire import PART_CHARACTERS, Envelope
from tests.support import messages as m
from tests.support.store import Store


def test_events_before_their_fold_message_are_kept_until_it_comes(store: Store) -> None:
    # Given a worker that was faster than the collector's copy of the message
    store.prepare_iris()
    store.take(m.started("r1"), m.trained("r1"))
    store.take(m.success("r1"))

    # When the message comes
    store.take(m.fold(run_id="r1"))

    # Then the run has everything
    assert store.record().state is FoldState.TESTED
    assert store.record().valid_scores == {"accuracy": 1.0}
    assert store.content()["held_events"] == []


def test_a_state_never_goes_back(store: Store) -> None:
    store.take(m.fold(run_id="r1"))

    store.take(m.validated("r1"))
    store.take(m.trained("r1"))

    assert store.run("r1")["state"] == FoldState.VALIDATED
    assert '"validation_time":0.5' in store.run("r1")["measurements"]


def test_two_attempts_that_both_end_leave_one_verdict(store: Store) -> None:
    # Given a worker that was believed dead, and its successor
    store.prepare_iris()
    store.take(m.fold(run_id="r1"), m.started("r1"))
    store.take(m.started("r1", attempt_id="attempt-2", worker="worker-2"))
    store.forget_published()

    # When both report the end, differently
    store.take(m.success("r1", attempt_id="attempt-2", worker="worker-2"))
    store.take(m.failure("r1"))

    # Then the first report counts, and one result is published
    assert store.record().state is FoldState.TESTED
    assert len(store.published(FoldResult)) == 1
    assert store.ignored() == ["the run is TESTED already"]
    assert store.run("r1")["worker"] == "worker-2"


def test_a_run_whose_workers_die_fails_after_max_attempts(store: Store) -> None:
    # Given a fold under which three workers died
    store.take(m.fold(run_id="r1"))
    for number in (1, 2, 3):
        store.take(m.started("r1", attempt_id=f"a{number}", worker=f"w{number}"))
        assert store.run("r1")["state"] == FoldState.TODO
        store.dead.add(f"w{number}")

    # When a fourth one starts it
    store.take(m.started("r1", attempt_id="a4", worker="w4"))

    # Then it fails, by nobody's submission's fault, and is stopped
    record = store.record()
    assert record.state is FoldState.ERROR
    assert record.verdict is not None
    assert record.verdict.kind is FailureKind.WORKER_LOST
    assert record.verdict.culprit is Culprit.INFRASTRUCTURE
    assert "3 workers died" in record.verdict.message
    assert [stop.run_id for _, stop in store.published(RunCancelled)] == ["r1"]


def test_attempts_given_back_or_still_running_do_not_count(store: Store) -> None:
    # Given a run that was given back twice, and that a living worker may still run
    store.take(m.fold(run_id="r1"))
    for number in (1, 2):
        attempt = {"attempt_id": f"a{number}", "worker": f"w{number}"}
        # A report that it was given back may overtake the one that it was begun.
        store.take(m.returned("r1", **attempt), m.started("r1", **attempt))
        store.dead.add(f"w{number}")
    store.take(m.started("r1", attempt_id="a3", worker="w3"))

    # When further workers start it
    store.take(m.started("r1", attempt_id="a4", worker="w4"))
    store.take(m.started("r1", attempt_id="a5", worker="w5"))

    # Then it goes on
    assert store.run("r1")["state"] == FoldState.TODO


def test_a_start_that_is_delivered_again_is_no_new_attempt(store: Store) -> None:
    store.take(m.fold(run_id="r1"))
    store.dead.add("worker-1")

    for _ in range(5):
        store.take(m.started("r1"))

    assert store.run("r1")["state"] == FoldState.TODO


def test_predictions_of_20_mb_in_parts_come_out_as_they_went_in(store: Store) -> None:
    # Given predictions of 20 MB that do not compress
    store.prepare_iris(n_train=1_300_000)
    predictions = np.random.default_rng(0).random((1_300_000, 2))
    parts, final = m.success_in_parts("r1", 11, predictions, PART_CHARACTERS)
    assert len(parts) > 5

    # When they travel in parts
    store.take(m.fold(run_id="r1"), m.started("r1"))
    for part in parts:
        store.take(part)
    store.take(final)

    # Then the record announces parts, and joined they are the predictions
    announced = store.record().full_train_predictions
    assert announced is not None
    texts = []
    for index in range(announced.parts):
        reply = store.ask(PartRequest(run_id="r1", array="full_train_predictions", index=index))
        assert isinstance(reply, PartReply)
        texts.append(reply.data)
    assert (announced.joined(texts).to_numpy() == predictions).all()
    assert store.content(but=("data",))["parts"] == []


def test_parts_of_two_attempts_never_mix(store: Store) -> None:
    # Given one attempt that died after its first part, and another one
    store.take(m.fold(run_id="r1"))
    first, _ = m.success_in_parts("r1", 11, m.PROBABILITIES * 0.5, 20, attempt_id="a1")
    second, final = m.success_in_parts("r1", 11, m.PROBABILITIES, 20, attempt_id="a2")

    # When the second one ends before all its parts have come
    store.take(*first)
    store.take(*second[:-1], final)

    # Then the fold has not ended until the last one comes, and has the second one's predictions
    assert store.run("r1")["state"] == FoldState.TODO
    store.take(second[-1])
    stored = store.record().full_train_predictions
    assert stored is not None
    assert (stored.to_numpy() == m.PROBABILITIES).all()


@pytest.mark.parametrize("bomb", [True, False], ids=["inflates", "not base64"])
def test_predictions_that_cannot_be_decoded_end_the_fold_with_a_verdict(
    store: Store, bomb: bool
) -> None:
    # Given a final report whose predictions inflate past what they declare, or are no base64
    store.take(m.fold(run_id="r1"), m.started("r1"))
    store.forget_published()
    whole = Array.of(np.zeros(1_000_000))
    data = whole.data if bomb else "!!!!"
    bad = m.success("r1", test_predictions=Array(dtype="<f8", shape=(4,), data=data))

    # When it comes
    store.take(bad)

    # Then it is put aside with the reason, and the fold does not stay TODO
    record = store.record()
    assert record.state is FoldState.ERROR
    assert record.verdict is not None
    assert record.verdict.culprit is Culprit.INFRASTRUCTURE
    ((_, dead),) = [pair for pair in store.published() if pair[0] == "datarun.dead"]
    assert ("inflates" if bomb else "base64") in dead.headers["datarun-reason"]


def test_an_event_that_names_another_fold_changes_nothing(store: Store) -> None:
    store.take(m.fold(11, "r1"), m.fold(12, "r2"))

    store.take(m.success("r1", 12))

    assert store.run("r1")["state"] == FoldState.TODO
    assert store.ignored() == ["the run belongs to fold 11"]


@pytest.fixture
def shared_store(engine: Engine) -> Store:
    """One store for all examples of a property, which take ids of their own."""
    store = Store(engine)
    store.prepare_iris()
    return store


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), repeated=st.booleans(), batch=st.integers(1, 8))
def test_any_order_with_duplicates_ends_in_the_same_state(
    shared_store: Store, seed: int, repeated: bool, batch: int
) -> None:
    # Given everything that is ever said of one run
    fold_id = m.new_id()
    run_id = f"run-{fold_id}"
    parts, final = m.success_in_parts(run_id, fold_id, m.PROBABILITIES, 20)
    said: list[Message | Envelope] = [
        m.fold(fold_id, run_id, submission_id=fold_id),
        m.started(run_id, fold_id),
        m.trained(run_id, fold_id),
        m.validated(run_id, fold_id),
        *parts,
        final,
    ]
    # When it comes in any order, some of it twice, in batches of any size
    shuffled = random.Random(seed)
    if repeated:
        said += shuffled.sample(said, 4)
    shuffled.shuffle(said)
    for begin in range(0, len(said), batch):
        shared_store.take(*said[begin : begin + batch])

    # Then the run ends as it does in the order in which it was said
    record = shared_store.record(fold_id)
    assert record.state is FoldState.TESTED
    assert record.generation == 1
    assert record.valid_scores == {"accuracy": 1.0}
    assert record.measurements == Measurements(train_time=1.5, validation_time=0.5, test_time=0.25)
    assert record.full_train_predictions == Array.of(m.PROBABILITIES)
    row = shared_store.run(run_id)
    assert row["attempts"] == '[["attempt-1", "worker-1", false]]'
    assert (row["worker"], row["standing"]) == ("worker-1", "current")
    content = shared_store.content()
    assert content["held_events"] == []
    results = [
        result
        for _, result in shared_store.published(FoldResult)
        if result.submission_fold_id == fold_id
    ]
    assert len(results) == 1
    shared_store.forget_published()


def test_a_part_after_the_end_leaves_nothing_behind(store: Store) -> None:
    # Given a fold whose predictions came in parts
    store.take(m.fold(run_id="r1"))
    parts, final = m.success_in_parts("r1", 11, m.PROBABILITIES, 20)
    store.take(*parts, final)

    # When a part is delivered again
    late: FoldPart = parts[0]
    store.take(late)

    # Then it is ignored
    assert store.content()["parts"] == []


def test_a_verdict_published_by_a_client_is_no_verdict(store: Store) -> None:
    # Given a fold, and a client that may publish work but no events
    store.take(m.fold(run_id="r1"))
    forged = replace(m.from_worker(m.success("r1")), exchange="datarun.work")

    # When he publishes a success of it
    store.take(forged)

    # Then the fold goes on, and the message is put aside
    assert store.run("r1")["state"] == FoldState.TODO
    ((exchange, dead),) = store.published()
    assert exchange == "datarun.dead"
    assert "datarun.events" in dead.headers["datarun-reason"]
