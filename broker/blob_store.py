"""Parts of data sets wherever they are: on streams of RabbitMQ, or in the object store."""

from __future__ import annotations

import io
import uuid
from typing import BinaryIO

from broker import blobs, object_store
from broker.object_store import ObjectStore, Progress
from schemas.blobs import is_stored, new_stored_blob
from schemas.errors import BlobError
from schemas.settings import Settings
from schemas.states import Visibility


class BlobStore:
    """What a service reads, writes and deletes parts with. Blocking.

    New parts go where the setting `blobs` says; a part's id says where it is, so that those of
    before the setting was changed are still found.
    """

    def __init__(self, url: str, objects: ObjectStore | None = None) -> None:
        """url: of RabbitMQ."""
        self._url = url
        self._objects = objects

    @classmethod
    def of(
        cls, settings: Settings, url: str, *, patience: float = object_store.PATIENCE
    ) -> BlobStore:
        """patience: with an object store that does not answer. Raises ConfigurationError."""
        return cls(url, ObjectStore(settings.blobs, patience) if settings.blobs else None)

    def new(self) -> str:
        """An id for a part that is to be written."""
        return uuid.uuid4().hex if self._objects is None else new_stored_blob()

    def write(
        self,
        visibility: Visibility,
        blob: str,
        source: BinaryIO | bytes,
        *,
        on_progress: Progress | None = None,
    ) -> tuple[int, str]:
        """Write `source`, from where it stands to its end, as blob `blob`; size and SHA-256.

        `on_progress` is called with the bytes written so far, and may raise to break off. Raises
        BlobError when refused, or after a while without an answer (StoreUnreachable if the object
        store's).
        """
        if is_stored(blob):
            stream = io.BytesIO(source) if isinstance(source, bytes) else source
            return self._of(visibility, blob).write(visibility, blob, stream, on_progress)
        return blobs.write_blob(self._url, visibility, blob, source, on_progress=on_progress)

    def read(
        self,
        visibility: Visibility,
        blob: str,
        target: BinaryIO,
        *,
        size: int,
        sha256: str,
        on_progress: Progress | None = None,
    ) -> None:
        """Read blob `blob` into `target`, never more than `size` bytes.

        `on_progress` is called with the bytes read so far, and may raise to break off. Raises
        BlobError when it is missing, of another size or altered, or after a while without an answer
        (StoreUnreachable if the object store's).
        """
        if is_stored(blob):
            self._of(visibility, blob).read(
                visibility, blob, target, size=size, sha256=sha256, on_progress=on_progress
            )
            return
        blobs.read_blob(
            self._url,
            visibility,
            blob,
            target,
            size=size,
            sha256=sha256,
            on_progress=on_progress,
        )

    def delete(self, visibility: Visibility, blob: str) -> None:
        """Delete a blob; nothing happens when there is none. Raises BlobError."""
        if is_stored(blob):
            self._of(visibility, blob).delete(visibility, blob)
        else:
            blobs.delete_blob(self._url, visibility, blob)

    def _of(self, visibility: Visibility, blob: str) -> ObjectStore:
        if self._objects is None:
            raise BlobError(
                f"data-set part {visibility}/{blob} is in an object store, and none is set here: "
                "give DATARUN_BLOBS, the same to the collector and to every worker"
            )
        return self._objects
