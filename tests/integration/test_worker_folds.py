"""The folds worker on a real broker: what it does with each kind of message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from broker.private_node import NodeAddress
from schemas.events import (
    FoldFailed,
    FoldPart,
    FoldReturned,
    FoldStarted,
    FoldTested,
    FoldTrained,
)
from schemas.messages import Limits
from schemas.states import Culprit, FailureKind, Phase, Priority, Role
from schemas.topology import (
    DATA_QUEUE,
    DEAD_LETTERS_QUEUE,
    REASON_HEADER,
    SOURCE_HEADER,
    WORK,
    folds_queue,
)
from schemas.verdicts import Verdict
from tests.support.deadline import wait_until
from tests.support.rabbitmq import new_vhost
from tests.support.worker_rig import (
    N_TEST,
    N_TRAIN,
    POOL,
    QUICK,
    RANDOM,
    SLOW,
    UNIFORM,
    WorkerRig,
    rig,
)

__all__ = ["rig"]

PREDICTS_SLOWLY = "predict_proba(self, X):\n        time.sleep(30)"


@pytest.fixture(scope="module")
def shared(rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerRig]:
    """One worker with one slot, and iris, for all tests that need no more than that."""
    folder = tmp_path_factory.mktemp("rig")
    with new_vhost(rabbitmq) as vhost, closing(WorkerRig(vhost, folder)) as rig:
        rig.announce()
        rig.worker()
        yield rig


def test_a_fold_tells_its_whole_story(shared: WorkerRig):
    # When a fold is published
    shared.fold(11, QUICK)
    tested = shared.wait_for(FoldTested, 11)

    # Then every state is told, in order, and the predictions are there
    assert shared.story(11) == ["FoldStarted", "FoldTrained", "FoldValidated", "FoldTested"]
    assert tested.full_train_predictions.to_numpy().shape == (N_TRAIN, 3)
    assert tested.test_predictions.to_numpy().shape == (N_TEST, 3)


def test_a_fold_typed_by_hand_into_the_console_runs(shared: WorkerRig):
    fold = {
        "submission_fold_id": 12,
        "submission_id": 1,
        "dataset": "iris",
        "files": {"classifier.py": QUICK},
        "train_is": list(range(50)),
        "test_is": list(range(50, 75)),
    }

    # When it comes without any property, to the exchange or straight to the queue
    shared.publish_bare(WORK, f"folds.{POOL}", json.dumps(fold))
    shared.publish_bare("", folds_queue(POOL), json.dumps({**fold, "submission_fold_id": 13}))

    shared.wait_for(FoldTested, 12)
    shared.wait_for(FoldTested, 13)


def test_a_fold_waits_outside_its_slot_for_a_data_set_that_is_announced_late(shared: WorkerRig):
    # Given one slot, and a fold for a data set that nobody has published
    run_id = shared.fold(21, QUICK, dataset="late", priority=Priority.H)
    wait_until(lambda: shared.workers[0].says("fold_waits"))

    # Then other folds run meanwhile
    shared.fold(22, QUICK)
    shared.wait_for(FoldTested, 22)
    assert not shared.of(FoldTested, 21)

    # When the data set is announced, the fold runs, as the run it was
    shared.announce("late")
    assert shared.wait_for(FoldTested, 21).run_id == run_id


def test_a_fold_on_a_failed_data_set_fails_with_that_data_sets_verdict(shared: WorkerRig):
    why = Verdict(
        phase=Phase.DATA,
        kind=FailureKind.DATA,
        culprit=Culprit.ORGANISER,
        message="column 'species' is not in iris.csv",
    )
    shared.announce_failure("broken", why)

    shared.fold(24, QUICK, dataset="broken")

    verdict = shared.wait_for(FoldFailed, 24).verdict
    assert "column 'species' is not in iris.csv" in verdict.message
    assert verdict.culprit is Culprit.ORGANISER


def test_an_index_out_of_range_is_named_with_its_data_set(shared: WorkerRig):
    shared.fold(25, QUICK, train_is=[0, 1, 75])

    verdict = shared.wait_for(FoldFailed, 25).verdict
    assert verdict.message == "train_is: index 75 is out of range: iris has 75 training rows"
    assert (verdict.kind, verdict.culprit) == (FailureKind.REJECTED, Culprit.PUBLISHER)


def test_a_fold_too_long_for_the_servers_consumer_timeout_is_refused_with_the_remedy(
    shared: WorkerRig,
):
    shared.fold(26, QUICK, limits=Limits(wall_seconds=3600))

    verdict = shared.wait_for(FoldFailed, 26).verdict
    assert "DATARUN_CONSUMER_TIMEOUT_RAISED" in verdict.message


@pytest.mark.parametrize(
    ("fold_id", "body", "reason"),
    [
        (32, b"\xff not json", "JSON"),
        (33, b'{"submission_fold_id": 31}', "submission_id"),
        (34, b'{"submission_fold_id": "thirty-one"}', "submission_fold_id"),
    ],
)
def test_a_malformed_message_goes_to_the_dead_letters_and_the_worker_goes_on(
    shared: WorkerRig, fold_id: int, body: bytes, reason: str
):
    # When a malformed message is followed by a fold
    shared.publish_bare(WORK, f"folds.{POOL}", body)
    shared.fold(fold_id, QUICK)
    shared.wait_for(FoldTested, fold_id)

    # Then it is in the dead letters as it came, with its reason and where it belongs (without a
    # priority, it may have been overtaken by the fold)
    wait_until(lambda: shared.depth(DEAD_LETTERS_QUEUE), what="the dead letter")
    (letter,) = shared.dead_letters()
    assert letter.body == body
    assert reason in letter.headers[REASON_HEADER]
    assert letter.headers[SOURCE_HEADER] == f"folds.{POOL}"


def test_predictions_too_large_for_one_message_come_in_parts_before_the_event(shared: WorkerRig):
    # Given 300,000 training and as many test rows: 7 MB of random predictions each
    manifest = shared.announce("large", copies=4000)

    shared.fold(35, RANDOM, dataset="large")
    tested = shared.wait_for(FoldTested, 35)

    # Then the parts of both arrays are there before the event that counts them
    arrays = {
        "full_train_predictions": (tested.full_train_predictions, manifest.n_train),
        "test_predictions": (tested.test_predictions, manifest.n_test),
    }
    for name, (array, n_rows) in arrays.items():
        parts = [part for part in shared.of(FoldPart, 35) if part.array == name]
        assert [part.index for part in parts] == list(range(array.parts))
        assert {part.attempt_id for part in parts} == {tested.attempt_id}
        probas = array.joined([part.data for part in parts]).to_numpy()
        assert probas.shape == (n_rows, 3)
        np.testing.assert_allclose(probas.sum(axis=1), 1)
    assert shared.story(35)[-1] == "FoldTested"


def test_cancelled_while_running_stops_and_frees_the_slot(shared: WorkerRig):
    # Given a fold that trains for half a minute in the only slot
    run_id = shared.fold(41, SLOW)
    shared.wait_for(FoldStarted, 41)

    # When it is cancelled
    shared.cancel(run_id, 41)
    shared.fold(42, QUICK)

    # Then the next one runs, and no more is heard of it
    shared.wait_for(FoldTested, 42, within=10)
    assert shared.story(41) == ["FoldStarted"]


def test_what_a_fold_has_reached_is_told_while_it_goes_on(shared: WorkerRig):
    # Given a fold that is trained, and takes half a minute to predict
    predicts_slowly = QUICK.replace("predict_proba(self, X):", PREDICTS_SLOWLY)
    assert predicts_slowly != QUICK
    run_id = shared.fold(43, predicts_slowly)

    # Then that is told although nothing follows it
    shared.wait_for(FoldTrained, 43, within=10)
    assert shared.story(43) == ["FoldStarted", "FoldTrained"]
    shared.cancel(run_id, 43)


def test_a_missing_queue_is_named_with_the_remedy(shared: WorkerRig):
    with pytest.raises(AssertionError, match="datarun broker setup"):
        shared.worker(pool="nobody")
    assert shared.depth(DATA_QUEUE) == 0


def test_when_the_worker_has_stopped_no_message_of_all_these_is_left(shared: WorkerRig):
    shared.wait_empty()


def test_a_fold_whose_data_set_does_not_come_fails_at_its_deadline_and_says_whose_fault_it_is(
    rig: WorkerRig,
):
    # Given a worker with little patience, and a cache that no data set fits into
    rig.announce()
    rig.worker(dataset_wait_seconds=1, cache_bytes=10)

    # When a fold wants a data set that nobody has published, and another one that there is
    rig.fold(23, QUICK, dataset="unheard-of")
    rig.fold(27, QUICK)

    # Then the first is the publisher's fault, and the second is not
    verdict = rig.wait_for(FoldFailed, 23).verdict
    assert (verdict.phase, verdict.kind) == (Phase.DATA, FailureKind.DATA)
    assert verdict.message.startswith("data set unheard-of is not known")
    assert verdict.culprit is Culprit.PUBLISHER
    verdict = rig.wait_for(FoldFailed, 27).verdict
    assert (verdict.phase, verdict.kind) == (Phase.DATA, FailureKind.DATA)
    assert "DATARUN_CACHE_BYTES" in verdict.message
    assert verdict.culprit is Culprit.INFRASTRUCTURE
    rig.wait_empty()


def test_h_overtakes_every_waiting_l_and_what_was_cancelled_before_any_worker_came_is_dropped(
    rig: WorkerRig,
):
    # Given twenty folds of low priority, one that is cancelled, and then one of high priority
    rig.announce()
    for fold_id in range(20):
        rig.fold(fold_id, QUICK)
    rig.cancel(rig.fold(43, QUICK), 43)
    rig.fold(98, QUICK)
    rig.fold(99, QUICK, priority=Priority.H)

    # When a worker comes
    rig.worker()
    rig.wait_for(FoldTested, 98)

    # Then the one of high priority was first, and nothing is heard of the cancelled one
    assert rig.of(FoldStarted)[0].submission_fold_id == 99
    assert rig.story(43) == []


def test_sigterm_lets_a_running_fold_finish_and_takes_no_other(rig: WorkerRig):
    rig.announce()
    worker = rig.worker()
    rig.fold(51, UNIFORM.format(sleep=2))
    rig.fold(52, QUICK)
    rig.wait_for(FoldStarted, 51)

    worker.signal()

    assert worker.wait_stopped() == 0
    assert rig.story(51)[-1] == "FoldTested"
    assert rig.story(52) == []
    assert rig.depth(folds_queue(POOL)) == 1


def test_a_second_sigterm_returns_the_running_fold_to_its_queue(rig: WorkerRig):
    rig.announce()
    worker = rig.worker()
    run_id = rig.fold(53, SLOW)
    started = rig.wait_for(FoldStarted, 53)

    worker.signal()
    wait_until(lambda: worker.says("worker_stopping"))
    worker.signal()

    assert worker.wait_stopped() == 0
    returned = rig.wait_for(FoldReturned, 53)
    assert (returned.run_id, returned.attempt_id) == (run_id, started.attempt_id)
    assert rig.depth(folds_queue(POOL)) == 1


def test_the_end_of_the_grace_period_returns_the_running_fold(rig: WorkerRig):
    rig.announce()
    worker = rig.worker(grace_seconds=0.2)
    rig.fold(54, SLOW)
    rig.wait_for(FoldStarted, 54)

    worker.signal()

    assert worker.wait_stopped() == 0
    assert rig.story(54) == ["FoldStarted", "FoldReturned"]
    assert rig.depth(folds_queue(POOL)) == 1


def test_an_idle_worker_stops_at_once(rig: WorkerRig):
    for role in Role:
        worker = rig.worker(role)
        worker.signal()
        assert worker.wait_stopped(within=5) == 0
