"""Uploading registered files that are too large for their DataMessage, before it is published."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, select, update

from broker.blob_store import BlobStore
from broker.object_store import Progress
from schemas.errors import BrokerError
from schemas.messages import DataMessage, UploadedFile
from schemas.states import Visibility
from storage.engine import snapshot, transaction
from storage.lookout import OTHERS_TURN
from storage.models import Blob, OutboxRow
from storage.raw_files import RawFileSize, file_sizes, read_pieces

logger = logging.getLogger(__name__)

INLINE_BYTES = 1 << 20
"""Files up to so much together travel inside the message, readable in the management console."""


@dataclass(frozen=True)
class Upload:
    """A DataMessage in the outbox whose files are not uploaded yet."""

    outbox_id: int
    message_id: str
    raw_data_id: int
    body: bytes


def next_upload(engine: Engine, *, ours: bool) -> Upload | None:
    """The oldest one. ours: this collector is at work; else only one that was left over."""
    query = select(OutboxRow).where(OutboxRow.raw_data_id.is_not(None)).order_by(OutboxRow.id)
    if not ours:
        query = query.where(OutboxRow.created_at < datetime.now(UTC) - OTHERS_TURN)
    with snapshot(engine) as connection:
        row = connection.execute(query.limit(1)).one_or_none()
    return Upload(row.id, row.message_id, row.raw_data_id, row.body) if row is not None else None


def upload_files(
    engine: Engine, store: BlobStore, upload: Upload, go_on: Progress | None = None
) -> None:
    """Write the large files as blobs, then let the message go, naming them.

    Every try writes blobs of its own, and only one try's are named: two collectors that upload at
    the same time do not mix, and what a killed one wrote is deleted with its data set's uploads.
    Raises DatabaseAway and BrokerError; then the message stays where it is. `go_on` may raise to
    break off.
    """
    with snapshot(engine) as connection:
        files = file_sizes(connection, upload.raw_data_id)
    large = large_files(files)
    blobs = {file.name: store.new() for file in large}
    _own(engine, upload.message_id, list(blobs.values()))
    try:
        uploads = {
            file.name: _upload(engine, store, upload.raw_data_id, file, blobs[file.name], go_on)
            for file in large
        }
    except BrokerError:
        # Tries may be many, and the data set that would take these along has not begun.
        with transaction(engine) as connection:
            _doom(connection, blobs.values())
        raise
    draft = DataMessage.model_validate_json(upload.body)
    body = draft.model_copy(update={"uploads": uploads}).model_dump_json().encode()
    with transaction(engine) as connection:
        done = connection.execute(
            update(OutboxRow)
            .where(OutboxRow.id == upload.outbox_id, OutboxRow.raw_data_id.is_not(None))
            .values(body=body, raw_data_id=None)
        )
        if done.rowcount == 0:
            _doom(connection, blobs.values())
    logger.info(
        "registered files uploaded",
        extra={"action": "raw_data_uploaded", "message_id": upload.message_id},
    )


def large_files(files: Sequence[RawFileSize]) -> tuple[RawFileSize, ...]:
    """Those that do not travel inside the message: all but the smallest up to INLINE_BYTES."""
    left = INLINE_BYTES
    large = []
    for file in sorted(files, key=lambda file: file.size):
        left -= file.size
        if left < 0:
            large.append(file)
    return tuple(large)


def _own(engine: Engine, message_id: str, blobs: Sequence[str]) -> None:
    """Know the blobs before they are written, so that they are deleted some day."""
    rows = [
        {
            "blob": blob,
            "visibility": Visibility.RAW.value,
            "owner": message_id,
            "created_at": datetime.now(UTC),
            "delete_at": None,
        }
        for blob in blobs
    ]
    with transaction(engine) as connection:
        connection.execute(insert(Blob), rows)


def _doom(connection: Connection, blobs: Iterable[str]) -> None:
    """Nobody will name them."""
    connection.execute(
        update(Blob).where(Blob.blob.in_(list(blobs))).values(delete_at=datetime.now(UTC))
    )


def _upload(
    engine: Engine,
    store: BlobStore,
    raw_data_id: int,
    file: RawFileSize,
    blob: str,
    go_on: Progress | None,
) -> UploadedFile:
    with tempfile.TemporaryFile() as spool:
        with snapshot(engine) as connection:
            for piece in read_pieces(connection, raw_data_id, file):
                spool.write(piece)
        spool.seek(0)
        size, sha256 = store.write(Visibility.RAW, blob, spool, on_progress=go_on)
    return UploadedFile(size=size, sha256=sha256, blob=blob)
