"""What producers publish: data sets, folds, acknowledgements, cancellations, uploads."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from schemas.arrays import AnyArray, Array
from schemas.datasets import (
    Custom,
    DatasetName,
    DatasetReference,
    FileName,
    HoldOut,
    ShortName,
    Split,
    checked_workflow,
)
from schemas.errors import ArrayError, MessageError
from schemas.files import Files
from schemas.frozen import MAX_ID, BlobId, Frozen, Id, Message, SubmissionName
from schemas.states import Priority, Visibility

MAX_INDEX_BYTES = 128 << 20
"""Largest index array: 16 million rows of 64-bit integers."""

PoolName = ShortName


def checked_indices(indices: Array) -> Array:
    """`indices` itself when it can be `train_is` or `test_is`; ArrayError says what is wrong.

    One-dimensional, integers, not empty, none negative, none repeated.
    """
    row_numbers(indices)
    return indices


def row_numbers(indices: Array) -> npt.NDArray[np.int64]:
    """Decode index arrays into int64 of shape (n_rows,), checked as `checked_indices` says."""
    values = indices.to_numpy(MAX_INDEX_BYTES)
    if values.ndim != 1:
        raise ArrayError(f"indices have one dimension, not shape {values.shape}")
    if values.size == 0:
        raise ArrayError("indices are empty: a fold needs at least one row")
    if values.dtype.kind not in "iu":
        raise ArrayError(f"indices are integers, not {values.dtype.str!r}")
    if values.dtype.kind == "u" and int(values.max()) > np.iinfo(np.int64).max:
        raise ArrayError(f"index {values.max()} is larger than any row number")
    rows = values.astype(np.int64, copy=False)
    if rows.min() < 0:
        raise ArrayError(f"index {rows.min()} is negative")
    ordered = np.sort(rows)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise ArrayError(f"index {repeated[0]} is repeated")
    return rows


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"not plain JSON: {error}") from error
    plain: dict[str, Any] = json.loads(text)
    return plain


Indices = Annotated[AnyArray, AfterValidator(checked_indices)]


LEAST_SECONDS = 0.1
"""Of a limit: in less, a fold has hardly begun, and nobody could say whose fault its end is."""

Duration = Annotated[float, Field(gt=0, le=366 * 24 * 3600)]
"""Seconds, up to a year: clocks and rlimits overflow on what a float can hold."""


class Limits(Frozen):
    """What one fold may use; None means the worker's default."""

    wall_seconds: Annotated[Duration, Field(ge=LEAST_SECONDS)] | None = None
    """Wall-clock time of all phases together."""

    cpu_seconds: Annotated[Duration, Field(ge=LEAST_SECONDS)] | None = None
    """CPU time of the fold and everything it started."""

    memory_bytes: Annotated[int, Field(gt=0, le=MAX_ID)] | None = None
    processes: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    """Processes and threads at one time."""


class UploadedFile(Frozen):
    """A data file that travels as a raw blob, named in the DataMessage."""

    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    blob: BlobId


class DataMessage(Message):
    """Split this data set. Routing key `data`."""

    TYPE: ClassVar[str] = "datarun.data.v1"

    name: DatasetName
    target_column: str | None = None
    """The column to predict; needed for HoldOut."""

    workflow_elements: str
    files: Files = {}
    """Small files, inline. A HoldOut data set has one CSV file, possibly compressed
    (`.gz`, `.bz2`, `.xz`, `.zip`)."""

    uploads: dict[FileName, UploadedFile] = {}
    """Large files, in raw blobs."""

    split: Split
    scoring: tuple[str, ...] = ()
    """scikit-learn scorer names; accuracy or RMSE when empty."""

    uploader: str | None = None
    """For people. What counts is the property `user_id`, which RabbitMQ checks."""

    @model_validator(mode="after")
    def _fits_together(self) -> DataMessage:
        checked_workflow(self.workflow_elements, self.split)
        names = [*self.files, *self.uploads]
        if not names:
            raise MessageError("files: a data set needs at least one file")
        if len(set(names)) < len(names):
            raise MessageError("files: a name stands in both files and uploads")
        match self.split:
            case HoldOut():
                if not self.target_column:
                    raise MessageError(
                        "target_column: which column is to be predicted? Only a data set with a "
                        "split of its own (a python file) needs none"
                    )
                if len(names) > 1:
                    raise MessageError(
                        f"files: a held-out split takes one CSV file, not {len(names)}; "
                        "several files need a custom split, with a python file"
                    )
            case Custom(file=file):
                if file not in names:
                    raise MessageError(f"split: {file!r} is not among the files {sorted(names)}")
                if not file.endswith(".py"):
                    raise MessageError(f"split: {file!r} is not a python file")
        return self


class FoldMessage(Message):
    """Train and test this submission on this fold. Routing key `folds.<pool>`."""

    TYPE: ClassVar[str] = "datarun.fold.v1"

    submission_fold_id: Id
    submission_id: Id
    dataset: str
    """`name@version`, or `name` for the newest version when the fold starts."""

    files: Files
    train_is: Indices
    """Row numbers to train on: int of shape (n_rows,)."""

    test_is: Indices
    """Row numbers to validate on: int of shape (n_rows,)."""

    priority: Priority = Priority.L
    pool: PoolName = "default"
    limits: Limits = Limits()
    params: Annotated[dict[str, Any], AfterValidator(_plain_json)] = {}
    """Free-form JSON that is stored with the fold and not interpreted."""

    submission_name: SubmissionName | None = None
    """What people call the submission; None leaves the name that it has."""

    force: bool = False
    """Run again a fold that was already run; the new run replaces the former one."""

    uploader: str | None = None
    """For people. What counts is the property `user_id`, which RabbitMQ checks."""

    @field_validator("dataset")
    @classmethod
    def _is_reference(cls, value: str) -> str:
        DatasetReference.parse(value)
        return value

    @field_validator("files")
    @classmethod
    def _has_files(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise MessageError("files: a submission needs at least one file")
        return value


class AcknowledgeMessage(Message):
    """These results have arrived: they are no longer new. Routing key `acknowledge`."""

    TYPE: ClassVar[str] = "datarun.acknowledge.v1"

    run_ids: tuple[str, ...] = ()
    submission_fold_ids: tuple[Id, ...] = ()
    """Acknowledges the current run of each, when it has ended."""


class CancelMessage(Message):
    """Stop these folds, or never start them. Routing key `cancel`."""

    TYPE: ClassVar[str] = "datarun.cancel.v1"

    submission_fold_ids: tuple[Id, ...]


class UploadMessage(Message):
    """These blobs are about to be written; said before they are. Routing key `upload`.

    The collector deletes them when nothing that came of `owner` needs them any more.
    """

    TYPE: ClassVar[str] = "datarun.upload.v1"

    owner: str
    """The message_id of the DataMessage they belong to."""

    blobs: tuple[tuple[Visibility, BlobId], ...]
