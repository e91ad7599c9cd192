"""Folds from rows to documents, a slice of bounded size at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from gateway.documents import (
    ArrayShapes,
    ArrayTypes,
    PredictionsDocument,
    SubmissionFoldDocument,
)
from gateway.encodings import (
    for_clients_of_2016,
    indices_for_clients_of_2016,
    stored_array,
)
from schemas.events import Measurements
from schemas.states import Priority
from storage.gateway_models import RawData
from storage.models import ArrayRow
from storage.records import dataset_classes
from storage.runs import Run
from storage.upsert import chunks

SLICE_BYTES = 8 << 20
"""Arrays that are in memory at a time, as they are stored; a single larger fold goes alone."""

PREDICTIONS = ("full_train_predictions", "test_predictions")
INDICES = ("train_is", "test_is")


class ArrayFormat(StrEnum):
    """How arrays leave."""

    BASE64 = "base64"
    """base64(zlib(raw bytes)), as in 2016."""

    JSON = "json"
    """Plain (nested) lists."""


@dataclass(frozen=True)
class FoldContent:
    """A run with the arrays that were asked for, and what belongs to its data set."""

    run: Run
    arrays: dict[str, tuple[str, tuple[int, ...], bytes]]
    """name -> dtype, shape, zlib(raw bytes)."""

    raw_data: int | None
    classes: list[Any] | None


def slices(
    connection: Connection, runs: Sequence[Run], names: Sequence[str], form: ArrayFormat
) -> list[list[Run]]:
    """The runs in groups whose arrays of these names fit into SLICE_BYTES, as they leave."""
    sizes: dict[str, int] = {}
    for some in chunks([run.run_id for run in runs]):
        query = select(
            ArrayRow.run_id, ArrayRow.dtype, ArrayRow.shape, func.length(ArrayRow.data)
        ).where(ArrayRow.run_id.in_(some), ArrayRow.name.in_(names))
        for run_id, dtype, shape, size in connection.execute(query):
            # Lists have every number, however well they are compressed where they are stored.
            raw = math.prod(json.loads(shape)) * np.dtype(dtype).itemsize
            sizes[run_id] = sizes.get(run_id, 0) + (raw if form is ArrayFormat.JSON else int(size))
    groups: list[list[Run]] = []
    room = 0
    for run in runs:
        size = sizes.get(run.run_id, 0)
        if not groups or size > room:
            groups.append([])
            room = SLICE_BYTES
        groups[-1].append(run)
        room -= size
    return groups


def contents(
    connection: Connection, runs: Sequence[Run], names: Sequence[str]
) -> Iterator[FoldContent]:
    """Each run with its arrays of these names."""
    arrays: dict[str, dict[str, tuple[str, tuple[int, ...], bytes]]] = {}
    for some in chunks([run.run_id for run in runs]):
        rows = connection.execute(
            select(ArrayRow.__table__).where(ArrayRow.run_id.in_(some), ArrayRow.name.in_(names))
        )
        for row in rows:
            shape = tuple(json.loads(row.shape))
            arrays.setdefault(row.run_id, {})[row.name] = (row.dtype, shape, row.data)
    named = {run.dataset for run in runs}
    ids = {
        row.name: row.id
        for some in chunks(named)
        for row in connection.execute(
            select(RawData.name, RawData.id).where(RawData.name.in_(some))
        )
    }
    classes = {
        key: dataset_classes(connection, *key)
        for key in {(run.dataset, run.version) for run in runs}
    }
    for run in runs:
        of_dataset = classes[run.dataset, run.version]
        yield FoldContent(
            run,
            arrays.get(run.run_id, {}),
            ids.get(run.dataset),
            of_dataset.to_numpy().tolist() if of_dataset is not None else None,
        )


def predictions_document(content: FoldContent, form: ArrayFormat) -> PredictionsDocument:
    """The fields of `testpredictions/`."""
    return PredictionsDocument(**_predictions_fields(content, form))


def fold_document(content: FoldContent, form: ArrayFormat) -> SubmissionFoldDocument:
    """The fields of `submissionfold/`."""
    return SubmissionFoldDocument(**fold_fields(content, form))


def fold_fields(content: FoldContent, form: ArrayFormat) -> dict[str, Any]:
    """What `fold_document` is made of."""
    run = content.run
    return {
        **_predictions_fields(content, form),
        **{name: _indices(content, name, form) for name in INDICES},
        "priority": Priority(run.priority),
        "new": run.new,
        "raw_data": content.raw_data,
        "version": run.version,
    }


def _predictions_fields(content: FoldContent, form: ArrayFormat) -> dict[str, Any]:
    run = content.run
    measured = Measurements.model_validate_json(run.measurements)
    values: dict[str, str | list[Any] | None] = {}
    types: dict[str, str | None] = {}
    shapes: dict[str, list[int] | None] = {}
    for name in PREDICTIONS:
        values[name], types[name], shapes[name] = _predictions(content, name, form)
    return {
        "databoard_sf_id": run.submission_fold_id,
        "databoard_s": run.submission_id,
        **values,
        "dtype": ArrayTypes(**types),
        "shape": ArrayShapes(**shapes),
        "classes": content.classes,
        "state": run.state,
        "log_messages": run.log_messages,
        "train_time": measured.train_time or 0.0,
        "validation_time": measured.validation_time or 0.0,
        "test_time": measured.test_time or 0.0,
        "train_cpu_time": measured.train_cpu_time or 0.0,
        "test_cpu_time": measured.test_cpu_time or 0.0,
        "train_memory": measured.train_memory or 0.0,
        "test_memory": measured.test_memory or 0.0,
        "task_id": run.run_id,
        "valid_scores": json.loads(run.valid_scores),
        "test_scores": json.loads(run.test_scores),
    }


def _predictions(
    content: FoldContent, name: str, form: ArrayFormat
) -> tuple[str | list[Any] | None, str | None, list[int] | None]:
    stored = content.arrays.get(name)
    if stored is None:
        return None, None, None
    dtype, shape, _ = stored
    if form is ArrayFormat.JSON:
        is_number = np.dtype(dtype).kind in "biuf"
        values = stored_array(*stored)
        as_sent = values.astype("<f8") if is_number else values
        return as_sent.tolist(), as_sent.dtype.str, list(shape)
    dtype, data = for_clients_of_2016(*stored)
    return data, dtype, list(shape)


def _indices(content: FoldContent, name: str, form: ArrayFormat) -> str | list[int]:
    stored = content.arrays.get(name)
    if stored is None:
        # A fold whose message could not be read has none.
        stored = ("<i8", (0,), b"x\x9c\x03\x00\x00\x00\x00\x01")
    if form is ArrayFormat.JSON:
        rows: list[int] = stored_array(*stored).astype("<i8").tolist()
        return rows
    return indices_for_clients_of_2016(*stored)
