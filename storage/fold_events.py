"""Events of folds: what workers report, in whatever order it comes, however often.

An event changes a run only while it is its fold's current run and has no verdict; everything
else is ignored and kept in the audit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import delete, select

from schemas.arrays import Array
from schemas.datasets import DatasetReference
from schemas.errors import ArrayError, MessageError
from schemas.events import (
    FoldEvent,
    FoldFailed,
    FoldPart,
    FoldReturned,
    FoldStarted,
    FoldTested,
    FoldTrained,
    FoldValidated,
    PredictionsName,
)
from schemas.states import Culprit, FailureKind, FoldState
from schemas.verdicts import Verdict
from schemas.wire import MESSAGE_TYPES, Envelope
from storage.arrays import StoredArray
from storage.folds import phase_after
from storage.labels import LabelsCache
from storage.models import PartRow, Standing
from storage.runs import Attempt, Run
from storage.scoring import Predictions, score_fold
from storage.upsert import insert_new
from storage.working_set import WorkingSet


@dataclass(frozen=True)
class FoldRules:
    """What events are judged by."""

    max_attempts: int
    is_alive: Callable[[str], bool]
    """Whether a worker still sends heartbeats, as far as this collector knows."""

    labels: LabelsCache


def apply_event(work: WorkingSet, envelope: Envelope, event: FoldEvent, rules: FoldRules) -> None:
    """Let an event change its run."""
    run = work.run(event.run_id)
    if run is None:
        work.hold(event.run_id, envelope, event.TYPE)
        return
    if reason := _why_ignored(run, event):
        work.ignore(event.TYPE, reason, event.run_id, event.submission_fold_id)
        return
    known = any(attempt.id == event.attempt_id for attempt in run.attempts)
    if isinstance(event, FoldStarted) and not known:
        dead = _workers_that_died(run, event, rules)
        if dead >= rules.max_attempts:
            _lose(work, run, dead)
            return
    run = _seen(run, event)
    match event:
        case FoldStarted():
            work.put(replace(run, version=_version(event.dataset) or run.version))
        case FoldTrained():
            work.put(_progressed(run, FoldState.TRAINED, event))
        case FoldValidated():
            work.put(_progressed(run, FoldState.VALIDATED, event))
        case FoldPart():
            work.put(run)
            _keep_part(work, event)
            replay_held(work, run.run_id, rules)
        case FoldReturned():
            work.put(_given_back(run, event.attempt_id))
        case FoldTested() | FoldFailed():
            _finish(work, run, envelope, event, rules)


def replay_held(work: WorkingSet, run_id: str, rules: FoldRules) -> None:
    """Apply the events that waited for a fold message, or for parts."""
    for kind, body in work.release(run_id):
        event = MESSAGE_TYPES[kind].model_validate_json(body)
        assert isinstance(event, FoldEvent)
        key = f"fold.{event.submission_fold_id}"
        apply_event(work, Envelope(body=body, routing_key=key, type=kind), event, rules)


def fail_unreadable(work: WorkingSet, run_id: str, reason: str) -> bool:
    """End a run whose final event cannot be read: its worker is done, so nothing else comes.

    False when the run has its verdict already, or does not count.
    """
    run = work.run(run_id)
    if run is None or run.state.is_terminal or run.standing is not Standing.CURRENT:
        return False
    verdict = Verdict(
        phase=phase_after(run.state),
        kind=FailureKind.BAD_OUTPUT,
        culprit=Culprit.INFRASTRUCTURE,
        message=f"bad_output: what the worker reported cannot be stored: {reason}",
    )
    failed = run.ended(FoldState.ERROR, work.now, verdict=verdict)
    work.put(failed)
    work.publish_result(failed)
    return True


def _why_ignored(run: Run, event: FoldEvent) -> str | None:
    if run.submission_fold_id != event.submission_fold_id:
        return f"the run belongs to fold {run.submission_fold_id}"
    if run.standing is Standing.SUPERSEDED:
        return "a later run of the fold took its place"
    if run.standing is Standing.REJECTED:
        return "the run was rejected"
    if run.state.is_terminal:
        return f"the run is {run.state} already"
    return None


def _workers_that_died(run: Run, event: FoldStarted, rules: FoldRules) -> int:
    """Attempts that ended with their worker: nobody gave them back, and nobody works on them.

    A worker runs a run once at a time, so its own earlier attempts are over too.
    """
    return sum(
        not attempt.returned
        and (attempt.worker == event.worker or not rules.is_alive(attempt.worker))
        for attempt in run.attempts
    )


def _lose(work: WorkingSet, run: Run, dead: int) -> None:
    message = f"worker_lost: {dead} workers died while they ran this fold; it is not tried again"
    verdict = Verdict(
        phase=phase_after(run.state),
        kind=FailureKind.WORKER_LOST,
        culprit=Culprit.INFRASTRUCTURE,
        message=message,
    )
    lost = run.ended(FoldState.ERROR, work.now, verdict=verdict, cancelled_at=work.now)
    work.put(lost)
    work.publish_result(lost)
    work.stop(lost, message)


def _seen(run: Run, event: FoldEvent) -> Run:
    """The run with the attempt that speaks, and with the worker that spoke last."""
    if not any(attempt.id == event.attempt_id for attempt in run.attempts):
        run = replace(run, attempts=(*run.attempts, Attempt(event.attempt_id, event.worker)))
    if run.worker_at is None or event.at >= run.worker_at:
        run = replace(run, worker=event.worker, worker_at=event.at)
    return run


def _progressed(run: Run, state: FoldState, event: FoldTrained | FoldValidated) -> Run:
    if state.progress < run.state.progress:
        return run
    return replace(run, state=state, measurements=event.measurements.model_dump_json())


def _given_back(run: Run, attempt_id: str) -> Run:
    attempts = tuple(
        replace(attempt, returned=True) if attempt.id == attempt_id else attempt
        for attempt in run.attempts
    )
    return replace(run, attempts=attempts)


def _keep_part(work: WorkingSet, event: FoldPart) -> None:
    row = {
        "run_id": event.run_id,
        "attempt_id": event.attempt_id,
        "array": event.array,
        "index": event.index,
        "data": event.data,
        "received_at": work.now,
    }
    insert_new(work.connection, PartRow, [row])


def _finish(
    work: WorkingSet,
    run: Run,
    envelope: Envelope,
    event: FoldTested | FoldFailed,
    rules: FoldRules,
) -> None:
    arrays = _predictions(event)
    in_parts = any(array.parts for array in arrays.values())
    try:
        if in_parts:
            joined = _joined(work, event, arrays)
            if joined is None:
                work.put(run)
                work.hold(event.run_id, envelope, event.TYPE)
                return
            arrays = joined
        decoded = {name: array.to_numpy() for name, array in arrays.items()}
    except ArrayError as error:
        fail_unreadable(work, run.run_id, str(error))
        work.dead_letter(envelope, str(error))
        return
    if event.dataset is not None:
        run = replace(run, version=_version(event.dataset) or run.version)
    labels = rules.labels.get(work.connection, run.dataset, run.version)
    test_is = work.test_is(run.run_id)
    valid_scores, test_scores = score_fold(
        labels,
        test_is.to_numpy() if test_is else None,
        Predictions(decoded.get("full_train_predictions"), decoded.get("test_predictions")),
    )
    verdict = event.verdict if isinstance(event, FoldFailed) else None
    ended = run.ended(
        _final_state(verdict),
        work.now,
        verdict=verdict,
        output=event.output,
        worker=event.worker,
        worker_at=event.at,
        measurements=event.measurements.model_dump_json(),
        valid_scores=json.dumps(valid_scores),
        test_scores=json.dumps(test_scores),
    )
    work.put(ended)
    for name, array in arrays.items():
        work.add_array(StoredArray.of(run.run_id, name, array))
    if in_parts:
        work.connection.execute(delete(PartRow).where(PartRow.run_id == run.run_id))
    work.publish_result(ended)


def _predictions(event: FoldTested | FoldFailed) -> dict[PredictionsName, Array]:
    arrays: dict[PredictionsName, Array] = {}
    if event.full_train_predictions is not None:
        arrays["full_train_predictions"] = event.full_train_predictions
    if isinstance(event, FoldTested):
        arrays["test_predictions"] = event.test_predictions
    return arrays


def _joined(
    work: WorkingSet, event: FoldTested | FoldFailed, arrays: dict[PredictionsName, Array]
) -> dict[PredictionsName, Array] | None:
    """The arrays with their parts put in; None while some are missing."""
    joined = dict(arrays)
    for name, array in arrays.items():
        if array.parts:
            texts = work.connection.scalars(
                select(PartRow.data)
                .where(
                    PartRow.run_id == event.run_id,
                    PartRow.attempt_id == event.attempt_id,
                    PartRow.array == name,
                    PartRow.index < array.parts,
                )
                .order_by(PartRow.index)
            ).all()
            if len(texts) < array.parts:
                return None
            joined[name] = array.joined(list(texts))
    return joined


def _final_state(verdict: Verdict | None) -> FoldState:
    if verdict is None:
        return FoldState.TESTED
    cancelled = verdict.kind is FailureKind.CANCELLED
    return FoldState.CANCELLED if cancelled else FoldState.ERROR


def _version(dataset: str) -> str | None:
    try:
        return DatasetReference.parse(dataset).version
    except MessageError:
        return None
