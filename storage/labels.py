"""The labels of data sets: fetched from their blobs, kept in the database, cached in memory."""

from __future__ import annotations

import io
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from broker.blob_store import BlobStore
from schemas.arrays import accepted_dtype
from schemas.datasets import Manifest
from schemas.errors import ArrayError, BlobError
from storage.models import DatasetVersion
from storage.models import Labels as LabelsRow
from storage.scoring import Labels, Values

CACHE_BYTES = 256 << 20

_PARTS = ("y_train", "y_test")


@dataclass(frozen=True)
class FetchedLabels:
    """The npy files of a version's labels, verified."""

    y_train: bytes
    y_test: bytes


def fetch_labels(
    blobs: BlobStore, manifest: Manifest, go_on: Callable[[int], None] | None = None
) -> FetchedLabels:
    """Read the labels of a version from their blobs. Blocking; `go_on` may raise to break off.

    Raises BlobError when one is missing, altered, or no array of as many rows as the manifest
    says, or away (StoreUnreachable if the object store is).
    """
    return FetchedLabels(
        y_train=_fetched(blobs, manifest, "y_train", manifest.n_train, go_on),
        y_test=_fetched(blobs, manifest, "y_test", manifest.n_test, go_on),
    )


def label_rows(manifest: Manifest, fetched: FetchedLabels) -> list[dict[str, str | bytes]]:
    """The rows of the labels table."""
    return [
        {
            "name": manifest.name,
            "version": manifest.version,
            "part": part,
            "data": zlib.compress(getattr(fetched, part), 1),
        }
        for part in _PARTS
    ]


class LabelsCache:
    """Labels by version, decoded; the least recently used go first. Used in one thread."""

    def __init__(self) -> None:
        self._cached: OrderedDict[tuple[str, str], Labels] = OrderedDict()

    def get(self, connection: Connection, name: str, version: str | None) -> Labels | None:
        """The labels of a version; None when it is not known."""
        if version is None:
            return None
        key = name, version
        labels = self._cached.get(key)
        if labels is None:
            labels = _read(connection, name, version)
            if labels is None:
                return None
            self._cached[key] = labels
            while len(self._cached) > 1 and self._size() > CACHE_BYTES:
                self._cached.popitem(last=False)
        self._cached.move_to_end(key)
        return labels

    def _size(self) -> int:
        return sum(labels.nbytes for labels in self._cached.values())


def _read(connection: Connection, name: str, version: str) -> Labels | None:
    rows = connection.execute(
        select(LabelsRow.part, LabelsRow.data).where(
            LabelsRow.name == name, LabelsRow.version == version
        )
    )
    parts = {row.part: _array(zlib.decompress(row.data)) for row in rows}
    text = connection.scalar(
        select(DatasetVersion.manifest).where(
            DatasetVersion.name == name, DatasetVersion.version == version
        )
    )
    if text is None or len(parts) < len(_PARTS):
        return None
    manifest = Manifest.model_validate_json(text)
    return Labels(
        y_train=parts["y_train"],
        y_test=parts["y_test"],
        classes=manifest.classes.to_numpy() if manifest.classes else None,
        scoring=manifest.scoring,
    )


def _fetched(
    blobs: BlobStore,
    manifest: Manifest,
    name: str,
    rows: int,
    go_on: Callable[[int], None] | None,
) -> bytes:
    try:
        part = manifest.part(name)
    except KeyError:
        raise BlobError(f"the manifest of {manifest.reference} has no part {name}") from None
    target = io.BytesIO()
    blobs.read(
        part.visibility,
        part.blob,
        target,
        size=part.size,
        sha256=part.sha256,
        on_progress=go_on,
    )
    data = target.getvalue()
    try:
        values = _array(data)
        accepted_dtype(values.dtype.str)
    except (ValueError, EOFError, ArrayError) as error:
        raise BlobError(f"{name} of {manifest.reference} is no array of labels: {error}") from error
    if values.ndim == 0 or len(values) != rows:
        raise BlobError(
            f"{name} of {manifest.reference} has shape {values.shape}; "
            f"its manifest says {rows} rows"
        )
    return data


def _array(data: bytes) -> npt.NDArray[np.generic]:
    values: Values = np.load(io.BytesIO(data), allow_pickle=False)
    return values
