"""Fold messages: runs and generations; and what their publishers ask of them later."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import replace

from schemas.datasets import DatasetReference
from schemas.errors import MessageError
from schemas.messages import AcknowledgeMessage, CancelMessage, FoldMessage
from schemas.states import Culprit, FailureKind, FoldState, Phase
from schemas.topology import ACCEPTED_HEADER, REPLAYED_HEADER, folds_key
from schemas.verdicts import Verdict
from schemas.wire import Envelope, readable_fold_id
from storage.arrays import StoredArray
from storage.models import Standing
from storage.runs import Run
from storage.working_set import WorkingSet

UNKNOWN = "-"
"""The data set of a fold whose message could not be read."""


def publish_fold(work: WorkingSet, envelope: Envelope, message: FoldMessage) -> Run | None:
    """A fold message: a new run, or a duplicate, or a second run that nobody forced.

    Returns the run when it is its fold's current one from now on, or when the gateway has made it
    so before the message was published.
    """
    run_id, fold_id = envelope.run_id, message.submission_fold_id
    known = work.run(run_id)
    if known is not None:
        if ACCEPTED_HEADER in envelope.headers:
            return known if _is_open(known) else None
        work.ignore(message.TYPE, "this run is known already", run_id, fold_id)
        return None
    current = work.current_run(fold_id)
    run = _described(work, envelope, message)
    if current is None:
        work.put(run)
    elif message.force or current.files_digest is None or _is_replayed(envelope, current):
        _supersede(work, current, run_id)
        # An operator sends it again, for whoever sent it first.
        sender = current.uploader if _is_replayed(envelope, current) else None
        run = replace(run, generation=current.generation + 1, uploader=run.uploader or sender)
        work.put(run)
    else:
        _reject_second(work, run, current)
        return None
    _store_inputs(work, run, message)
    return run


def reject_fold(work: WorkingSet, run: Run, reason: str) -> None:
    """End a run that cannot be done as its message stands. The publisher is told."""
    rejected = run.ended(FoldState.ERROR, work.now, verdict=rejection(reason))
    work.put(rejected)
    work.publish_result(rejected)


def store_unreadable_fold(work: WorkingSet, envelope: Envelope, reason: str) -> bool:
    """Store the failure of a malformed fold message, so that its fold does not stay TODO.

    False when no fold id can be read, or when a run counts for the fold already.
    """
    fold_id = readable_fold_id(envelope.body)
    if fold_id is None or work.current_run(fold_id) or work.run(envelope.run_id):
        return False
    content = json.loads(envelope.body)
    submission_id = content.get("submission_id")
    run = Run(
        run_id=envelope.run_id,
        submission_fold_id=fold_id,
        submission_id=readable_fold_id(json.dumps({"submission_fold_id": submission_id}).encode())
        or 0,
        generation=1,
        dataset=_readable_dataset(content.get("dataset")),
        version=None,
        pool=_pool(envelope),
        priority="L",
        published_at=work.now,
    )
    reject_fold(work, run, reason)
    return True


def cancel_folds(work: WorkingSet, message: CancelMessage) -> int:
    """End these folds' runs at once, and tell the workers. Returns how many were not ended."""
    count = 0
    for fold_id in message.submission_fold_ids:
        run = work.current_run(fold_id)
        if run is None or run.state.is_terminal:
            reason = "no such fold" if run is None else f"the fold is {run.state} already"
            work.ignore(message.TYPE, reason, run.run_id if run else None, fold_id)
            continue
        verdict = Verdict(
            phase=phase_after(run.state),
            kind=FailureKind.CANCELLED,
            culprit=Culprit.PUBLISHER,
            message="cancelled: somebody asked for this fold to be stopped",
        )
        cancelled = run.ended(FoldState.CANCELLED, work.now, verdict=verdict, cancelled_at=work.now)
        work.put(cancelled)
        work.publish_result(cancelled)
        work.stop(cancelled, verdict.message)
        count += 1
    return count


def acknowledge(work: WorkingSet, message: AcknowledgeMessage) -> int:
    """These results have arrived. Returns how many were new and have ended."""
    named = [work.run(run_id) for run_id in message.run_ids]
    named += [work.current_run(fold_id) for fold_id in message.submission_fold_ids]
    arrived = {
        run.run_id: run for run in named if run is not None and run.new and run.state.is_terminal
    }
    for run in arrived.values():
        work.put(replace(run, new=False))
    return len(arrived)


def phase_after(state: FoldState) -> Phase:
    """The phase that a run in `state` is in, or was waiting for."""
    phases = {FoldState.TRAINED: Phase.VALIDATION, FoldState.VALIDATED: Phase.TEST}
    return phases.get(state, Phase.TRAIN)


def rejection(reason: str) -> Verdict:
    """The verdict of a message that cannot be accepted as it stands."""
    return Verdict(
        phase=Phase.DATA,
        kind=FailureKind.REJECTED,
        culprit=Culprit.PUBLISHER,
        message=f"rejected: {reason}",
    )


def _is_open(run: Run) -> bool:
    return run.standing is Standing.CURRENT and not run.state.is_terminal


def _is_replayed(envelope: Envelope, current: Run) -> bool:
    """Whether this takes the place of the very message that the current run was refused by.

    Its letter is gone by now: a rejected second run would be the end of it.
    """
    replays = envelope.headers.get(REPLAYED_HEADER) == current.run_id
    return replays and current.state is FoldState.ERROR


def _pool(envelope: Envelope) -> str:
    """Where the fold waits: that of its routing key, whatever a body pasted by hand says of it."""
    return envelope.routing_key.removeprefix(folds_key(""))


def _described(work: WorkingSet, envelope: Envelope, message: FoldMessage) -> Run:
    reference = DatasetReference.parse(message.dataset)
    return Run(
        run_id=envelope.run_id,
        submission_fold_id=message.submission_fold_id,
        submission_id=message.submission_id,
        generation=1,
        dataset=reference.name,
        version=reference.version,
        pool=_pool(envelope),
        priority=message.priority.value,
        published_at=envelope.timestamp or work.now,
        limits=message.limits.model_dump_json(exclude_none=True),
        params=json.dumps(message.params),
        # Whom RabbitMQ has checked, or the gateway; what a body says of it, anybody can write.
        uploader=envelope.user_id,
    )


def _store_inputs(work: WorkingSet, run: Run, message: FoldMessage) -> None:
    files = {name: file.model_dump() for name, file in sorted(message.files.items())}
    plain = json.dumps(files, separators=(",", ":")).encode()
    digest = hashlib.sha256(plain).hexdigest()
    work.put(replace(run, files_digest=digest))
    work.put_submission(
        run.submission_id,
        digest,
        zlib.compress(plain, 1),
        name=message.submission_name,
        dataset=run.dataset,
        uploader=run.uploader,
    )
    work.add_array(StoredArray.of(run.run_id, "train_is", message.train_is))
    work.add_array(StoredArray.of(run.run_id, "test_is", message.test_is))


def _supersede(work: WorkingSet, run: Run, successor: str) -> None:
    if not run.state.is_terminal:
        reason = f"run {successor} takes its place"
        verdict = Verdict(
            phase=phase_after(run.state),
            kind=FailureKind.CANCELLED,
            culprit=Culprit.PUBLISHER,
            message=f"cancelled: {reason}",
        )
        run = run.ended(FoldState.CANCELLED, work.now, verdict=verdict, cancelled_at=work.now)
        work.stop(run, reason)
    work.put(replace(run, standing=Standing.SUPERSEDED, new=False))
    work.drop_predictions(run.run_id)


def _reject_second(work: WorkingSet, run: Run, current: Run) -> None:
    reason = (
        f"fold {current.submission_fold_id} has a run already ({current.run_id}, "
        f"{current.state}); publish it with force to run it again"
    )
    rejected = run.ended(
        FoldState.ERROR,
        work.now,
        verdict=rejection(reason),
        standing=Standing.REJECTED,
        new=False,
        generation=current.generation,
        cancelled_at=work.now,
    )
    work.put(rejected)
    work.publish_result(rejected)
    work.stop(rejected, reason)


def _readable_dataset(value: object) -> str:
    if isinstance(value, str):
        try:
            return DatasetReference.parse(value).name
        except MessageError:
            return UNKNOWN
    return UNKNOWN


def named_folds(messages: Iterable[object]) -> frozenset[int]:
    """The folds whose current run these messages are about."""
    found: set[int] = set()
    for message in messages:
        match message:
            case FoldMessage():
                found.add(message.submission_fold_id)
            case AcknowledgeMessage() | CancelMessage():
                found.update(message.submission_fold_ids)
    return frozenset(found)
