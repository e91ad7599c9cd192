"""Data sets as requests see them."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from schemas.datasets import Manifest
from schemas.requests import DatasetRecord, DatasetsRequest
from schemas.states import DatasetState
from schemas.verdicts import Verdict
from storage.models import Dataset, DatasetVersion


def dataset_records(connection: Connection, request: DatasetsRequest) -> tuple[DatasetRecord, ...]:
    """The data sets that a request asks for, by name.

    By message_id, the data set as that message left it; by version, the one that has it. Else,
    of each name, the newest that is ready and, where that is another one, what was published
    last: it is being prepared, or has failed.
    """
    query = select(Dataset.__table__)
    if request.name is not None:
        query = query.where(Dataset.name == request.name)
    if request.message_id is not None:
        query = query.where(Dataset.message_id == request.message_id)
    if request.version is not None:
        query = query.where(Dataset.version == request.version)
    if request.message_id is None:
        latest = select(func.max(Dataset.id)).group_by(Dataset.name, Dataset.version)
        ready = (
            select(func.max(Dataset.id))
            .where(Dataset.state == DatasetState.READY)
            .group_by(Dataset.name)
        )
        last = select(func.max(Dataset.id)).group_by(Dataset.name)
        chosen = latest if request.version is not None else ready.union(last)
        query = query.where(Dataset.id.in_(chosen))
    rows = connection.execute(query.order_by(Dataset.name, Dataset.id)).all()
    records = []
    for row in rows:
        manifest = _manifest(connection, row.name, row.version)
        records.append(
            DatasetRecord(
                message_id=row.message_id,
                name=row.name,
                state=DatasetState(row.state),
                version=row.version,
                verdict=Verdict.model_validate_json(row.verdict) if row.verdict else None,
                n_train=manifest.n_train if manifest else None,
                n_test=manifest.n_test if manifest else None,
                classes=manifest.classes if manifest else None,
                stored_at=row.stored_at or row.published_at,
                target_column=manifest.target_column if manifest else row.target_column,
                workflow_elements=(
                    manifest.workflow_elements if manifest else row.workflow_elements
                ),
                log_messages=row.log_messages,
                manifest=manifest,
            )
        )
    return tuple(records)


def _manifest(connection: Connection, name: str, version: str | None) -> Manifest | None:
    text = connection.scalar(
        select(DatasetVersion.manifest).where(
            DatasetVersion.name == name, DatasetVersion.version == version
        )
    )
    return Manifest.model_validate_json(text) if text is not None else None
