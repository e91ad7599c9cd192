"""What the collector does once a day and when it starts: repeat the current state to the control
stream, withdraw superseded versions, delete blobs that nothing needs, prune."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, exists, or_, select, update

from schemas.control import DatasetAnnounced, DatasetWithdrawn, RunCancelled
from schemas.datasets import Manifest
from schemas.frozen import Message
from schemas.states import TERMINAL, DatasetState, Visibility
from schemas.topology import CONTROL
from schemas.verdicts import Verdict
from storage import audit, outbox
from storage.datasets import is_newest
from storage.models import Blob, Dataset, DatasetVersion, HeldEvent, Labels, PartRow, RunRow

REPEATED = timedelta(days=30)
"""How long a cancelled run is named again: as long as the control stream would keep it."""

MOST_REPEATED = 1_000
ABANDONED_UPLOAD = timedelta(days=1)
"""An upload whose data message has not come for so long has no publisher any more."""

LONGEST_HELD = timedelta(days=30)


def repeat_state(connection: Connection, now: datetime) -> None:
    """Publish every live version, every failed data set and the latest cancelled runs again."""
    rows = [outbox.row(CONTROL, message, key, now) for key, message in _state(connection, now)]
    outbox.write(connection, rows)


def withdraw_superseded(connection: Connection, now: datetime, retention: timedelta) -> None:
    """Withdraw old versions that no unfinished fold names."""
    unfinished = exists().where(
        RunRow.dataset == DatasetVersion.name,
        RunRow.version == DatasetVersion.version,
        RunRow.state.not_in(TERMINAL),
    )
    rows = connection.execute(
        select(DatasetVersion.name, DatasetVersion.version, DatasetVersion.manifest).where(
            DatasetVersion.superseded_at <= now - retention,
            DatasetVersion.withdrawn_at.is_(None),
            ~unfinished,
        )
    ).all()
    for row in rows:
        of_version = (DatasetVersion.name == row.name, DatasetVersion.version == row.version)
        connection.execute(update(DatasetVersion).where(*of_version).values(withdrawn_at=now))
        connection.execute(
            delete(Labels).where(Labels.name == row.name, Labels.version == row.version)
        )
        blobs = [part.blob for part in Manifest.model_validate_json(row.manifest).parts]
        connection.execute(update(Blob).where(Blob.blob.in_(blobs)).values(delete_at=now))
        withdrawn = DatasetWithdrawn(name=row.name, version=row.version)
        outbox.write(connection, [outbox.row(CONTROL, withdrawn, "dataset", now)])


def blobs_to_delete(connection: Connection, now: datetime) -> list[tuple[Visibility, str]]:
    """The blobs that nothing needs any more."""
    owned = exists().where(Dataset.message_id == Blob.owner)
    rows = connection.execute(
        select(Blob.visibility, Blob.blob).where(
            or_(
                Blob.delete_at <= now,
                Blob.delete_at.is_(None) & (Blob.created_at <= now - ABANDONED_UPLOAD) & ~owned,
            )
        )
    )
    return [(Visibility(row.visibility), row.blob) for row in rows]


def forget_blob(connection: Connection, blob: str) -> None:
    """It is deleted."""
    connection.execute(delete(Blob).where(Blob.blob == blob))


def prune(connection: Connection, now: datetime) -> None:
    """Let nothing grow without bound: the audit, events and parts that nobody waits for."""
    audit.prune(connection)
    oldest = now - LONGEST_HELD
    rows = connection.execute(
        select(HeldEvent.type, HeldEvent.run_id).where(HeldEvent.received_at <= oldest)
    ).all()
    audit.write(
        connection,
        [audit.row(row.type, "its fold never came", row.run_id, None, now) for row in rows],
    )
    connection.execute(delete(HeldEvent).where(HeldEvent.received_at <= oldest))
    ended = exists().where(RunRow.run_id == PartRow.run_id, RunRow.state.in_(TERMINAL))
    connection.execute(delete(PartRow).where(or_(ended, PartRow.received_at <= oldest)))


def _state(connection: Connection, now: datetime) -> Iterator[tuple[str, Message]]:
    versions = connection.execute(
        select(DatasetVersion.manifest, DatasetVersion.superseded_at)
        .where(DatasetVersion.withdrawn_at.is_(None))
        .order_by(DatasetVersion.ready_at)
    ).all()
    for text, superseded_at in versions:
        manifest = Manifest.model_validate_json(text)
        newest = superseded_at is None
        yield (
            "dataset",
            DatasetAnnounced(name=manifest.name, manifest=manifest, newest=newest, at=now),
        )
    failed = connection.execute(
        select(Dataset.name, Dataset.message_id, Dataset.verdict)
        .where(Dataset.state == DatasetState.FAILED)
        .order_by(Dataset.id)
    ).all()
    for name, message_id, reason in failed:
        if reason is not None and is_newest(connection, name, message_id):
            verdict = Verdict.model_validate_json(reason)
            yield "dataset", DatasetAnnounced(name=name, manifest=None, verdict=verdict, at=now)
    cancelled = connection.execute(
        select(RunRow.run_id, RunRow.submission_fold_id, RunRow.verdict)
        .where(RunRow.cancelled_at >= now - REPEATED)
        .order_by(RunRow.cancelled_at.desc())
        .limit(MOST_REPEATED)
    ).all()
    for run_id, fold_id, why in reversed(cancelled):
        message = Verdict.model_validate_json(why).message if why is not None else ""
        yield (
            "run",
            RunCancelled(run_id=run_id, submission_fold_id=fold_id, reason=message, at=now),
        )
