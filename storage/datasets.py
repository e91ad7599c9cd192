"""Data sets: published, uploaded, prepared into versions, superseded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, func, insert, select, update

from schemas.control import DatasetAnnounced
from schemas.datasets import Manifest
from schemas.events import DataFailed, DataReady
from schemas.messages import DataMessage, UploadMessage
from schemas.results import DatasetResult
from schemas.states import Culprit, DatasetState, FailureKind, Phase
from schemas.topology import ACCEPTED_HEADER, CONTROL, RESULTS
from schemas.verdicts import Output, Verdict, log_messages
from schemas.wire import Envelope
from storage.folds import rejection
from storage.labels import FetchedLabels, label_rows
from storage.models import Blob, Dataset, DatasetVersion, Labels
from storage.raw_data import remember_published
from storage.upsert import insert_new, insert_or_update
from storage.working_set import WorkingSet

LATE_BLOB = timedelta(hours=1)
"""A blob that is announced when its data set has ended already is written by somebody who does not
know yet; it is deleted when he is certainly done."""


@dataclass(frozen=True)
class NoLabels:
    """Why the labels of a version could not be fetched."""

    reason: str


def publish_dataset(work: WorkingSet, envelope: Envelope, message: DataMessage) -> None:
    """A data message: the data set is TODO until a worker has split it."""
    if _find(work.connection, envelope.run_id) is not None:
        if ACCEPTED_HEADER not in envelope.headers:
            work.ignore(message.TYPE, "this message is known already", envelope.run_id)
        return
    remember_published(work, envelope, message)
    _insert(
        work,
        envelope.run_id,
        message.name,
        target_column=message.target_column,
        workflow_elements=message.workflow_elements,
        uploader=envelope.user_id,
        published_at=envelope.timestamp or work.now,
    )


def register_blobs(work: WorkingSet, message: UploadMessage) -> None:
    """Blobs are about to be written; whatever nothing needs in the end is deleted."""
    row = _find(work.connection, message.owner)
    ended = row is not None and row.state != DatasetState.TODO
    rows = [
        {
            "blob": blob,
            "visibility": visibility.value,
            "owner": message.owner,
            "created_at": work.now,
            "delete_at": work.now + LATE_BLOB if ended else None,
        }
        for visibility, blob in message.blobs
    ]
    insert_new(work.connection, Blob, rows)


def wanted_labels(connection: Connection, message: DataReady) -> bool:
    """Whether this report brings a version whose labels must be fetched first."""
    row = _find(connection, message.message_id)
    if row is not None and row.state != DatasetState.TODO:
        return False
    return _live_manifest(connection, message.manifest) is None


def data_ready(
    work: WorkingSet, message: DataReady, fetched: FetchedLabels | NoLabels | None
) -> None:
    """A data set is prepared: a new version, or one that is known, prepared again."""
    given = message.manifest
    if _is_late(work, message, given.name):
        _own(work, given, message.message_id)
        _doom(work, [part.blob for part in given.parts], message.message_id)
        return
    if isinstance(fetched, NoLabels):
        verdict = Verdict(
            phase=Phase.DATA,
            kind=FailureKind.DATA,
            culprit=Culprit.INFRASTRUCTURE,
            message=f"data: the labels that were prepared cannot be read: {fetched.reason}",
        )
        _fail(work, message.message_id, given.name, verdict, message.output)
        return
    manifest = _live_manifest(work.connection, given)
    if manifest is None:
        assert isinstance(fetched, FetchedLabels)
        manifest = given
        _store_version(work, manifest, fetched)
    _end(work, message.message_id, DatasetState.READY, manifest.version, None, message.output)
    newest = _supersede(work, manifest)
    _own(work, given, message.message_id)
    _delete_blobs(work, message.message_id, [part.blob for part in manifest.parts])
    announced = DatasetAnnounced(name=manifest.name, manifest=manifest, newest=newest, at=work.now)
    work.publish(CONTROL, announced, "dataset")
    result = DatasetResult(
        message_id=message.message_id,
        name=manifest.name,
        state=DatasetState.READY,
        version=manifest.version,
        n_train=manifest.n_train,
        n_test=manifest.n_test,
        classes=manifest.classes,
        stored_at=work.now,
    )
    work.publish(RESULTS, result, f"data.{manifest.name}")


def data_failed(work: WorkingSet, message: DataFailed) -> None:
    """A data set could not be prepared."""
    if not _is_late(work, message, message.name):
        _fail(work, message.message_id, message.name, message.verdict, message.output)


def reject_dataset(work: WorkingSet, message_id: str, name: str, reason: str) -> bool:
    """A data message cannot be accepted. False when the data set has ended already."""
    row = _find(work.connection, message_id)
    if row is None:
        _insert(work, message_id, name)
    elif row.state != DatasetState.TODO:
        return False
    _fail(work, message_id, name, rejection(reason), Output())
    return True


def is_newest(connection: Connection, name: str, message_id: str) -> bool:
    """Whether no later message of that name has ended."""
    newest = connection.scalar(
        select(Dataset.message_id)
        .where(Dataset.name == name, Dataset.state != DatasetState.TODO)
        .order_by(Dataset.id.desc())
        .limit(1)
    )
    return newest == message_id


def newest_version(connection: Connection, name: str) -> str | None:
    """The version that a fold of `name` without a version gets."""
    return connection.scalar(
        select(Dataset.version)
        .where(Dataset.name == name, Dataset.state == DatasetState.READY)
        .order_by(Dataset.id.desc())
        .limit(1)
    )


def _find(connection: Connection, message_id: str) -> Row[str, str] | None:
    return connection.execute(
        select(Dataset.name, Dataset.state).where(Dataset.message_id == message_id)
    ).one_or_none()


def _is_late(work: WorkingSet, message: DataReady | DataFailed, name: str) -> bool:
    row = _find(work.connection, message.message_id)
    if row is None:
        # The report overtook its message, which will be ignored as known.
        _insert(work, message.message_id, name)
        return False
    if row.state != DatasetState.TODO:
        work.ignore(message.TYPE, f"the data set is {row.state} already", message.message_id)
        return True
    return False


def _insert(
    work: WorkingSet,
    message_id: str,
    name: str,
    *,
    target_column: str | None = None,
    workflow_elements: str = "",
    uploader: str | None = None,
    published_at: datetime | None = None,
) -> None:
    row = {
        "message_id": message_id,
        "name": name,
        "state": DatasetState.TODO,
        "target_column": target_column,
        "workflow_elements": workflow_elements,
        "uploader": uploader,
        "log_messages": "",
        "published_at": published_at or work.now,
    }
    work.connection.execute(insert(Dataset), [row])


def _live_manifest(connection: Connection, manifest: Manifest) -> Manifest | None:
    """The manifest that this version already has."""
    text = connection.scalar(
        select(DatasetVersion.manifest).where(
            DatasetVersion.name == manifest.name,
            DatasetVersion.version == manifest.version,
            DatasetVersion.withdrawn_at.is_(None),
        )
    )
    return Manifest.model_validate_json(text) if text is not None else None


def _store_version(work: WorkingSet, manifest: Manifest, fetched: FetchedLabels) -> None:
    row = {
        "name": manifest.name,
        "version": manifest.version,
        "manifest": manifest.model_dump_json(),
        "ready_at": work.now,
        "superseded_at": None,
        "withdrawn_at": None,
    }
    columns = ("manifest", "ready_at", "superseded_at", "withdrawn_at")
    insert_or_update(work.connection, DatasetVersion, [row], update=columns)
    rows: list[Mapping[str, str | bytes]] = list(label_rows(manifest, fetched))
    insert_or_update(work.connection, Labels, rows, update=("data",))


def _supersede(work: WorkingSet, manifest: Manifest) -> bool:
    """Mark which version of the name is the newest; returns whether this one is."""
    newest = newest_version(work.connection, manifest.name)
    work.connection.execute(
        update(DatasetVersion)
        .where(DatasetVersion.name == manifest.name, DatasetVersion.version != newest)
        .values(superseded_at=func.coalesce(DatasetVersion.superseded_at, work.now))
    )
    work.connection.execute(
        update(DatasetVersion)
        .where(DatasetVersion.name == manifest.name, DatasetVersion.version == newest)
        .values(superseded_at=None)
    )
    return newest == manifest.version


def _fail(work: WorkingSet, message_id: str, name: str, verdict: Verdict, output: Output) -> None:
    _end(work, message_id, DatasetState.FAILED, None, verdict, output)
    _delete_blobs(work, message_id, [])
    newest = is_newest(work.connection, name, message_id)
    announced = DatasetAnnounced(
        name=name, manifest=None, verdict=verdict, newest=newest, at=work.now
    )
    work.publish(CONTROL, announced, "dataset")
    result = DatasetResult(
        message_id=message_id,
        name=name,
        state=DatasetState.FAILED,
        verdict=verdict,
        stored_at=work.now,
    )
    work.publish(RESULTS, result, f"data.{name}")


def _end(
    work: WorkingSet,
    message_id: str,
    state: DatasetState,
    version: str | None,
    verdict: Verdict | None,
    output: Output,
) -> None:
    work.connection.execute(
        update(Dataset)
        .where(Dataset.message_id == message_id)
        .values(
            state=state,
            version=version,
            verdict=verdict.model_dump_json() if verdict else None,
            log_messages=log_messages(verdict, output),
            stored_at=work.now,
        )
    )


def _own(work: WorkingSet, manifest: Manifest, owner: str) -> None:
    """Know every blob of a version, so that it can be deleted some day."""
    rows = [
        {
            "blob": part.blob,
            "visibility": part.visibility.value,
            "owner": owner,
            "created_at": work.now,
        }
        for part in manifest.parts
    ]
    insert_new(work.connection, Blob, rows)


def _delete_blobs(work: WorkingSet, owner: str, kept: list[str]) -> None:
    """Of what belongs to a data message, delete all but `kept`: uploads, failed attempts."""
    work.connection.execute(
        update(Blob).where(Blob.owner == owner, Blob.blob.not_in(kept)).values(delete_at=work.now)
    )


def _doom(work: WorkingSet, blobs: list[str], owner: str) -> None:
    """Delete blobs that a late report names, unless a version consists of them."""
    row = work.connection.execute(
        select(Dataset.name, Dataset.version).where(Dataset.message_id == owner)
    ).one()
    text = work.connection.scalar(
        select(DatasetVersion.manifest).where(
            DatasetVersion.name == row.name, DatasetVersion.version == row.version
        )
    )
    kept = {part.blob for part in Manifest.model_validate_json(text).parts} if text else set()
    work.connection.execute(
        update(Blob)
        .where(Blob.owner == owner, Blob.blob.in_(set(blobs) - kept))
        .values(delete_at=work.now)
    )
