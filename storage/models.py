"""The tables.

The collector reads and writes them with Core statements (many rows at a time); whoever only
looks, such as the gateway, may map them as objects. Structured values that are never searched
(verdicts, measurements, scores, manifests) are JSON text, read by the models of `schemas`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BigId = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on both databases; on SQLite `INTEGER`, which is the row id itself."""


class Utc(TypeDecorator[datetime]):
    """A moment: aware in Python, UTC in the database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; SQLite keeps no zone."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Standing(StrEnum):
    """What a run is to its fold. A fold has one CURRENT run."""

    CURRENT = "current"
    """Its state is the fold's state."""

    SUPERSEDED = "superseded"
    """A later generation took its place."""

    REJECTED = "rejected"
    """An unforced second run: it never counted."""


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can change it on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Dataset(Base):
    """A data set as one DataMessage described it."""

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    """In the order of publishing: the newest READY row of a name is its newest version."""

    message_id: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(String(40), index=True)
    state: Mapped[str] = mapped_column(String(16))
    target_column: Mapped[str | None] = mapped_column(Text)
    workflow_elements: Mapped[str] = mapped_column(Text)
    uploader: Mapped[str | None] = mapped_column(Text)
    version: Mapped[str | None] = mapped_column(String(16))
    verdict: Mapped[str | None] = mapped_column(Text)
    log_messages: Mapped[str] = mapped_column(Text)
    published_at: Mapped[datetime] = mapped_column(Utc)
    stored_at: Mapped[datetime | None] = mapped_column(Utc)


class DatasetVersion(Base):
    """An immutable version of a data set, and where its parts are."""

    __tablename__ = "dataset_versions"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    version: Mapped[str] = mapped_column(String(16), primary_key=True)
    manifest: Mapped[str] = mapped_column(Text)
    ready_at: Mapped[datetime] = mapped_column(Utc)
    superseded_at: Mapped[datetime | None] = mapped_column(Utc)
    withdrawn_at: Mapped[datetime | None] = mapped_column(Utc)


class Labels(Base):
    """`y_train` or `y_test` of a version, for scoring: the bytes of its npy file, deflated."""

    __tablename__ = "labels"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    version: Mapped[str] = mapped_column(String(16), primary_key=True)
    part: Mapped[str] = mapped_column(String(16), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Blob(Base):
    """A stream that holds a part of a data set, or an uploaded file."""

    __tablename__ = "blobs"

    blob: Mapped[str] = mapped_column(String(255), primary_key=True)
    visibility: Mapped[str] = mapped_column(String(8))
    owner: Mapped[str] = mapped_column(String(255), index=True)
    """The message_id of the DataMessage that it belongs to."""

    created_at: Mapped[datetime] = mapped_column(Utc)
    delete_at: Mapped[datetime | None] = mapped_column(Utc, index=True)
    """None while something needs it."""


class FileSet(Base):
    """The files of a submission, stored once for all its folds."""

    __tablename__ = "file_sets"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of `content`."""

    content: Mapped[bytes] = mapped_column(LargeBinary)
    """The files as JSON (`schemas.files.Files`), deflated."""


class Submission(Base):
    """A submission, with the files that its latest fold message brought."""

    __tablename__ = "submissions"

    submission_id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    name: Mapped[str | None] = mapped_column(Text)
    """What people call it, where its publisher has said."""

    files_digest: Mapped[str] = mapped_column(String(64))
    dataset: Mapped[str] = mapped_column(String(40))
    uploader: Mapped[str | None] = mapped_column(Text)
    published_at: Mapped[datetime] = mapped_column(Utc)
    updated_at: Mapped[datetime] = mapped_column(Utc)


class Fold(Base):
    """A submission on a CV fold: which run counts for it."""

    __tablename__ = "folds"

    submission_fold_id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    run_id: Mapped[str] = mapped_column(String(255))
    generation: Mapped[int] = mapped_column(Integer)


class RunRow(Base):
    """One run of a fold, with its verdict."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_new", "new", "submission_fold_id"),
        Index("ix_runs_new_dataset", "new", "dataset", "submission_fold_id"),
        Index("ix_runs_state", "standing", "state", "submission_fold_id"),
        Index("ix_runs_submission", "submission_id", "submission_fold_id"),
        Index("ix_runs_dataset", "dataset", "version"),
    )

    run_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    submission_fold_id: Mapped[int] = mapped_column(BigInteger, index=True)
    submission_id: Mapped[int] = mapped_column(BigInteger)
    generation: Mapped[int] = mapped_column(Integer)
    standing: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    new: Mapped[bool]
    """Until it is acknowledged."""

    dataset: Mapped[str] = mapped_column(String(40))
    version: Mapped[str | None] = mapped_column(String(16))
    """None until a run of `name` without a version has started."""

    pool: Mapped[str] = mapped_column(Text)
    priority: Mapped[str] = mapped_column(String(1))
    files_digest: Mapped[str | None] = mapped_column(String(64))
    """None when the fold message could not be read."""

    limits: Mapped[str] = mapped_column(Text)
    params: Mapped[str] = mapped_column(Text)
    uploader: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[str] = mapped_column(Text)
    """JSON list of `storage.runs.Attempt`."""

    worker: Mapped[str | None] = mapped_column(Text)
    worker_at: Mapped[datetime | None] = mapped_column(Utc)
    """The worker's clock at the latest event."""

    verdict: Mapped[str | None] = mapped_column(Text)
    log_messages: Mapped[str] = mapped_column(Text)
    measurements: Mapped[str] = mapped_column(Text)
    valid_scores: Mapped[str] = mapped_column(Text)
    test_scores: Mapped[str] = mapped_column(Text)
    published_at: Mapped[datetime] = mapped_column(Utc)
    stored_at: Mapped[datetime | None] = mapped_column(Utc)
    """When the verdict was stored."""

    cancelled_at: Mapped[datetime | None] = mapped_column(Utc, index=True)
    """When workers were told to stop it."""


class ArrayRow(Base):
    """An array of a run: its indices and predictions. Listing runs never reads them."""

    __tablename__ = "arrays"

    run_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    """`train_is`, `test_is`, `full_train_predictions` or `test_predictions`."""

    dtype: Mapped[str] = mapped_column(String(16))
    shape: Mapped[str] = mapped_column(Text)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    """zlib(raw bytes in C order), as it travelled."""


class PartRow(Base):
    """A piece of an array that waits for the final event of its attempt."""

    __tablename__ = "parts"

    run_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    attempt_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    array: Mapped[str] = mapped_column(String(32), primary_key=True)
    index: Mapped[int] = mapped_column(Integer, primary_key=True)
    data: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(Utc)


class HeldEvent(Base):
    """An event that came before its fold message, or before the parts that it counts."""

    __tablename__ = "held_events"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    run_id: Mapped[str] = mapped_column(String(255), index=True)
    type: Mapped[str] = mapped_column(String(64))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime] = mapped_column(Utc)


class HeldDataset(Base):
    """A report that a data set is ready, which waits for its labels (`storage.held_datasets`)."""

    __tablename__ = "held_datasets"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime] = mapped_column(Utc)


class Worker(Base):
    """The last heartbeat of a worker, written from time to time."""

    __tablename__ = "workers"

    worker: Mapped[str] = mapped_column(String(255), primary_key=True)
    heartbeat: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(Utc)
    """The collector's clock."""


class OutboxRow(Base):
    """A message that is to be published, written with what it reports."""

    __tablename__ = "outbox"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    exchange: Mapped[str] = mapped_column(String(255))
    routing_key: Mapped[str] = mapped_column(String(255))
    type: Mapped[str | None] = mapped_column(String(255))
    message_id: Mapped[str | None] = mapped_column(String(255))
    priority: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[str] = mapped_column(Text)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Utc)
    raw_data_id: Mapped[int | None] = mapped_column(BigId)
    """A DataMessage that waits until the files of this registered data are uploaded."""


class IgnoredMessage(Base):
    """A message that changed nothing, and why. The oldest are pruned."""

    __tablename__ = "ignored_messages"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    run_id: Mapped[str | None] = mapped_column(Text, index=True)
    submission_fold_id: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(Utc)


class Counter(Base):
    """A number that only grows: the next id to allot, or how often something happened."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
