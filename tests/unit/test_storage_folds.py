"""Runs of a fold: generations, second runs, cancellation, acknowledgement."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from broker.dead_letters import DeadLetter
from schemas.control import RunCancelled
from schemas.messages import AcknowledgeMessage, CancelMessage
from schemas.requests import Acknowledged, FoldsReply, FoldsRequest, ResultsReply, ResultsRequest
from schemas.results import FoldResult
from schemas.states import Culprit, FailureKind, FoldState
from storage.engine import snapshot
from storage.gateway_models import RawData
from storage.models import Submission
from tests.support import messages as m
from tests.support.store import Store


def test_a_fold_that_succeeds_is_stored_scored_and_published_once(store: Store) -> None:
    # Given a data set that is ready
    store.prepare_iris()
    store.forget_published()

    # When a fold is published and everything about it is reported
    store.take(m.fold(run_id="r1", dataset=m.manifest().reference))
    store.take(m.started("r1"), m.trained("r1"), m.validated("r1"), m.success("r1"))

    # Then its verdict is stored with scores and predictions, and one result is published
    record = store.record()
    assert record.state is FoldState.TESTED
    assert record.valid_scores == {"accuracy": 1.0}
    assert record.test_scores == {"accuracy": 0.75}
    assert record.measurements.test_time == 0.25
    assert record.new
    assert record.full_train_predictions is not None
    assert (record.full_train_predictions.to_numpy() == m.PROBABILITIES).all()
    assert record.classes is not None
    assert list(record.classes.to_numpy()) == ["setosa", "virginica"]
    ((exchange, result),) = store.published()
    assert exchange == "datarun.results"
    assert isinstance(result, FoldResult)
    assert result.state is FoldState.TESTED
    assert not result.rejected


def test_a_failed_fold_keeps_what_came_before_the_failing_phase(store: Store) -> None:
    # Given a fold whose submission raises when it predicts the test rows
    store.prepare_iris()
    store.take(m.fold(run_id="r1"))

    # When the worker reports the failure with the training rows' predictions
    event = m.failure("r1", dataset=m.manifest().reference, full_train_predictions=m.PROBABILITIES)
    store.take(m.started("r1"), event)

    # Then they are stored and scored, there are no test scores, and the log says the phase
    record = store.record()
    assert record.state is FoldState.ERROR
    assert record.verdict == event.verdict
    assert record.valid_scores == {"accuracy": 1.0}
    assert record.test_scores == {}
    assert record.test_predictions is None
    assert record.log_messages.endswith("ERROR(train)")


def test_the_same_message_twice_is_one_run(store: Store) -> None:
    envelope = m.fold(run_id="r1")

    store.take(envelope, envelope)
    store.take(envelope)

    assert store.run("r1")["generation"] == 1
    assert store.ignored() == ["this run is known already"] * 2
    assert store.published() == []


def test_a_message_without_id_is_one_run_however_often_it_is_delivered(store: Store) -> None:
    # Given a fold typed into the management console: no message_id, no type
    typed = replace(m.fold(), message_id=None, type=None)

    # When it is delivered twice
    store.take(typed)
    store.take(typed)

    # Then it is one run
    assert len(store.content()["runs"]) == 1


def test_an_unforced_second_run_is_rejected_and_the_first_verdict_stands(store: Store) -> None:
    # Given a fold that is tested
    store.prepare_iris()
    store.take(m.fold(run_id="r1"), m.success("r1"))
    store.forget_published()

    # When it is published again under another id, without force, twice
    second = m.fold(run_id="r2")
    store.take(second)
    store.take(second)

    # Then one rejected result is published, workers are told to drop it, and the first stands
    results = [message for _, message in store.published(FoldResult)]
    assert [(result.run_id, result.rejected) for result in results] == [("r2", True)]
    assert results[0].verdict.kind is FailureKind.REJECTED
    assert results[0].verdict.culprit is Culprit.PUBLISHER
    assert "force" in results[0].verdict.message
    assert [stop.run_id for _, stop in store.published(RunCancelled)] == ["r2"]
    assert store.record().run_id == "r1"

    # And what a worker may still report of it changes nothing
    store.take(m.success("r2"))
    assert store.record().run_id == "r1"
    assert "the run was rejected" in store.ignored()


def test_force_makes_the_next_generation_and_stops_the_former_run(store: Store) -> None:
    # Given a run that is going on
    store.prepare_iris()
    store.take(m.fold(run_id="r1"), m.started("r1"), m.trained("r1"))
    store.forget_published()

    # When the fold is published again with force, delivered twice
    forced = m.fold(run_id="r2", force=True, files={"classifier.py": "class Classifier: 2"})
    store.take(forced, forced)

    # Then it is generation 2, and the workers are told to stop the former one
    assert store.run("r2")["generation"] == 2
    assert [stop.run_id for _, stop in store.published(RunCancelled)] == ["r1"]

    # And only what is reported of the second counts
    store.take(m.success("r1"))
    store.take(m.success("r2", attempt_id="attempt-2"))
    record = store.record()
    assert (record.run_id, record.generation, record.state) == ("r2", 2, FoldState.TESTED)
    assert [result.run_id for _, result in store.published(FoldResult)] == ["r2"]

    # And the submission has the files that the forced message brought
    digests = {row["files_digest"] for row in store.content()["submissions"]}
    assert digests == {store.run("r2")["files_digest"]}


def test_a_superseded_run_keeps_no_predictions(store: Store) -> None:
    store.prepare_iris()
    store.take(m.fold(run_id="r1"), m.success("r1"))

    store.take(m.fold(run_id="r2", force=True))

    assert {row["run_id"] for row in store.content()["arrays"]} == {"r2"}


def test_cancelled_fold_ends_at_once_and_late_events_are_ignored(store: Store) -> None:
    # Given a fold in training
    store.prepare_iris()
    store.take(m.fold(run_id="r1"), m.started("r1"))
    store.forget_published()

    # When it is cancelled, and its worker, who does not know yet, reports a success
    cancel = m.from_client(CancelMessage(submission_fold_ids=(11, 99)), "cancel", reply_to="q")
    applied = store.take(cancel)
    store.take(m.trained("r1"), m.success("r1"))

    # Then it is CANCELLED, once, the workers are told, and who asked hears how many there were
    record = store.record()
    assert record.state is FoldState.CANCELLED
    assert record.verdict is not None
    assert record.verdict.kind is FailureKind.CANCELLED
    assert record.new
    assert len(store.published(FoldResult)) == 1
    assert [stop.run_id for _, stop in store.published(RunCancelled)] == ["r1"]
    assert [reply for _, reply in applied.replies] == [Acknowledged(count=1)]


def test_acknowledging_clears_new_of_ended_folds_only(store: Store) -> None:
    # Given a fold that is tested, one that failed, and one that runs
    store.prepare_iris()
    store.take(m.fold(1, "r1"), m.fold(2, "r2"), m.fold(3, "r3"))
    store.take(m.success("r1", 1), m.failure("r2", 2), m.started("r3", 3))
    new = ResultsRequest(with_predictions=False)
    reply = store.ask(new)
    assert isinstance(reply, ResultsReply)
    assert [record.submission_fold_id for record in reply.results] == [1, 2]

    # When all three are acknowledged, one by its run id
    message = AcknowledgeMessage(run_ids=("r1",), submission_fold_ids=(1, 2, 3))
    applied = store.take(m.from_client(message, "acknowledge", reply_to="q"))

    # Then the ended ones are new no more, and the running one is new when it ends
    assert applied.replies[0][1] == Acknowledged(count=2)
    assert store.ask(new) == ResultsReply(results=(), cursor=None)
    store.take(m.success("r3", 3))
    reply = store.ask(new)
    assert isinstance(reply, ResultsReply)
    assert [record.submission_fold_id for record in reply.results] == [3]


def test_only_whom_rabbitmq_has_checked_is_an_uploader(store: Store) -> None:
    # Given folds that say in their bodies who uploaded them
    nobody = m.fold(11, "r11", uploader="olga", submission_id=1)
    peter = replace(m.fold(12, "r12", uploader="olga", submission_id=2), user_id="peter")
    data = replace(m.from_client(m.data_message(uploader="olga"), "data"), user_id="peter")
    store.take(nobody, peter, data)

    # Then those of nobody whom RabbitMQ knows are nobody's
    assert store.run("r11")["uploader"] is None
    assert store.run("r12")["uploader"] == "peter"
    with snapshot(store.engine) as connection:
        uploaders = select(Submission.uploader).order_by(Submission.submission_id)
        assert connection.scalars(uploaders).all() == [None, "peter"]
        assert connection.scalars(select(RawData.uploader)).all() == ["peter"]


def test_a_dead_letter_that_is_sent_again_is_still_its_uploaders(store: Store) -> None:
    # Given a user's fold that was refused
    store.unknown_pools = frozenset({"gpu"})
    refused = replace(m.fold(run_id="r1", pool="gpu"), user_id="peter")
    store.take(refused)

    # When an operator sends it again
    store.unknown_pools = frozenset()
    letter = DeadLetter(replace(refused, exchange="datarun.dead"), tag=1)
    again = replace(letter.replayed(), exchange="datarun.work")
    store.take(again)

    # Then it is that user's
    assert store.run(again.run_id)["uploader"] == "peter"


def test_folds_are_listed_in_pages(store: Store) -> None:
    # Given seven folds, of which two are tested
    store.prepare_iris()
    store.take(*(m.fold(fold_id, f"r{fold_id}", priority="H") for fold_id in range(7)))
    store.take(m.success("r2", 2), m.success("r5", 5))

    # When they are asked for, three at a time
    first = store.ask(FoldsRequest(limit=3))
    rest = store.ask(FoldsRequest(limit=4, after=2))

    # Then each page says whether there are more
    assert isinstance(first, FoldsReply)
    assert isinstance(rest, FoldsReply)
    assert [fold.submission_fold_id for fold in first.folds] == [0, 1, 2]
    assert first.more
    assert [fold.submission_fold_id for fold in rest.folds] == [3, 4, 5, 6]
    assert not rest.more

    # And the last ones are counted
    last = store.ask(FoldsRequest(limit=2, last=3))
    assert isinstance(last, FoldsReply)
    assert [fold.submission_fold_id for fold in last.folds] == [4, 5]
    assert (last.more, last.count) == (True, 7)
    everything = store.ask(FoldsRequest(last=100))
    assert isinstance(everything, FoldsReply)
    assert len(everything.folds) == everything.count == 7
    nothing = store.ask(FoldsRequest(last=100, submission_id=12345))
    assert isinstance(nothing, FoldsReply)
    assert (nothing.folds, nothing.count) == ((), 0)

    # And only those that have ended are new
    assert [fold.new for fold in everything.folds] == [i in (2, 5) for i in range(7)]

    # And a state selects
    tested = store.ask(FoldsRequest(state=FoldState.TESTED, submission_fold_ids=tuple(range(2000))))
    assert isinstance(tested, FoldsReply)
    assert [(fold.submission_fold_id, fold.worker) for fold in tested.folds] == [
        (2, "worker-1"),
        (5, "worker-1"),
    ]
