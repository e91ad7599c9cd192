"""Folds that were accepted before their data set was split: published when it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Engine, Select, delete, func, select

from schemas.datasets import DatasetReference
from schemas.messages import FoldMessage
from schemas.states import Culprit, DatasetState, FailureKind, FoldState, Phase
from schemas.topology import folds_key
from schemas.verdicts import Verdict
from schemas.wire import pack
from storage import outbox
from storage.engine import snapshot, transaction
from storage.gateway_models import RawData, WaitingFold
from storage.models import Dataset, Standing
from storage.runs import Run
from storage.telling import tell_of_result
from storage.working_set import Needs, WorkingSet

MOST = 50
"""Folds released in one transaction: each may hold megabytes of files."""


def release_folds(engine: Engine) -> int:
    """Publish or fail the folds whose split has ended; at most MOST. Returns how many there were.

    Which those are is read from what is committed, so it does not matter when this is called, nor
    by how many collectors.
    """
    with snapshot(engine) as connection:
        if connection.execute(ended().limit(1)).one_or_none() is None:
            return 0
    with transaction(engine) as connection:
        rows = connection.execute(ended().limit(MOST)).all()
        work = WorkingSet(connection, datetime.now(UTC))
        run_ids = [row.run_id for row in rows]
        work.load(Needs(frozenset(run_ids), frozenset(), frozenset()))
        for row in rows:
            run = work.run(row.run_id)
            # One that was cancelled, or run again by force meanwhile, has its verdict already.
            if run is None or run.standing is not Standing.CURRENT or run.state.is_terminal:
                continue
            if row.state == DatasetState.READY:
                _publish(work, run, row.body, row.version)
            else:
                fail_unsplit(work, run, Verdict.model_validate_json(row.verdict))
        connection.execute(delete(WaitingFold).where(WaitingFold.run_id.in_(run_ids)))
        work.flush()
    for run in work.ended:
        tell_of_result(run)
    return len(rows)


def fail_unsplit(work: WorkingSet, run: Run, split: Verdict) -> None:
    """End a fold whose data set could not be split, with the verdict of the data set."""
    verdict = Verdict(
        phase=Phase.DATA,
        kind=FailureKind.DATA,
        culprit=split.culprit if split.culprit is not Culprit.SUBMISSION else Culprit.ORGANISER,
        message=f"data: the data set {run.dataset!r} could not be split: {split.message}",
    )
    failed = run.ended(FoldState.ERROR, work.now, verdict=verdict)
    work.put(failed)
    work.publish_result(failed)


def ended() -> Select[str, bytes, str, str | None, str | None]:
    """The folds whose split has ended, as it has ended."""
    return (
        select(
            WaitingFold.run_id,
            WaitingFold.body,
            Dataset.state,
            Dataset.version,
            Dataset.verdict,
        )
        # On PostgreSQL a fold and a first split may be accepted at the same moment, neither seeing
        # the other: such a fold has no split of its own, and gets that of its data set.
        .join(RawData, RawData.id == WaitingFold.raw_data_id)
        .join(
            Dataset,
            Dataset.message_id == func.coalesce(WaitingFold.message_id, RawData.message_id),
        )
        .where(Dataset.state != DatasetState.TODO)
        .order_by(WaitingFold.id)
    )


def _publish(work: WorkingSet, run: Run, body: bytes, version: str) -> None:
    message = FoldMessage.model_validate_json(body)
    reference = str(DatasetReference(run.dataset, version))
    message = message.model_copy(update={"dataset": reference})
    work.put(replace(run, version=version))
    envelope = pack(message, folds_key(message.pool), message_id=run.run_id)
    work.outbox.append(outbox.accepted_row(envelope, work.now))
