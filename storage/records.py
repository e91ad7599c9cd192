"""Stored verdicts with everything that belongs to them, in pages that fit into a message."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Select, func, select

from schemas.arrays import Array
from schemas.datasets import Manifest
from schemas.requests import FoldRecord, ResultsReply, ResultsRequest
from schemas.states import TERMINAL
from storage.arrays import ArraySize, read_array
from storage.models import ArrayRow, DatasetVersion, RunRow, Standing
from storage.runs import Run, run_columns, run_from_row
from storage.submissions import submission_names
from storage.upsert import IN_MOST

PAGE_CHARACTERS = 6 << 20
"""Where a page ends; the rest of a message's 8 MiB is for what one record may have beyond it."""

LARGEST_INLINE = 1 << 20
"""Longest base64 text of an array that travels in its record."""

_RUNS_A_PAGE = 500
_SMALL_FIELDS = 4_000
"""Characters of a record's ids, scores and measurements, generously."""


def results_page(connection: Connection, request: ResultsRequest) -> ResultsReply:
    """The results that a request asks for, beginning at its cursor."""
    runs, more_after = _runs(connection, request)
    sizes = _sizes(connection, runs) if request.with_predictions else {}
    names = submission_names(connection, (run.submission_id for run in runs))
    classes: dict[tuple[str, str | None], Array | None] = {}
    records: list[FoldRecord] = []
    room = PAGE_CHARACTERS
    for run in runs:
        arrays = sizes.get(run.run_id, [])
        room -= _length(run, arrays)
        if records and room < 0:
            return ResultsReply(results=tuple(records), cursor=run.submission_fold_id)
        key = run.dataset, run.version
        if key not in classes:
            classes[key] = dataset_classes(connection, *key)
        name = names.get(run.submission_id)
        records.append(_record(connection, run, arrays, classes[key], name))
    return ResultsReply(results=tuple(records), cursor=more_after)


def _runs(connection: Connection, request: ResultsRequest) -> tuple[list[Run], int | None]:
    """The next runs, and where to go on after them."""
    query: Select[tuple[object, ...]] = (
        select(*run_columns())
        .where(
            RunRow.standing == Standing.CURRENT,
            RunRow.state.in_(TERMINAL),
            RunRow.submission_fold_id >= request.cursor,
        )
        .order_by(RunRow.submission_fold_id)
    )
    if request.dataset is not None:
        query = query.where(RunRow.dataset == request.dataset)
    if request.submission_fold_ids is None:
        query = query.where(RunRow.new).limit(_RUNS_A_PAGE + 1)
        runs = [run_from_row(row) for row in connection.execute(query).mappings()]
        more = runs[_RUNS_A_PAGE].submission_fold_id if len(runs) > _RUNS_A_PAGE else None
        return runs[:_RUNS_A_PAGE], more
    wanted = sorted({i for i in request.submission_fold_ids if i >= request.cursor})
    query = query.where(RunRow.submission_fold_id.in_(wanted[:IN_MOST]))
    runs = [run_from_row(row) for row in connection.execute(query).mappings()]
    return runs, wanted[IN_MOST] if len(wanted) > IN_MOST else None


def _sizes(connection: Connection, runs: Sequence[Run]) -> dict[str, list[ArraySize]]:
    rows = connection.execute(
        select(
            ArrayRow.run_id,
            ArrayRow.name,
            ArrayRow.dtype,
            ArrayRow.shape,
            func.length(ArrayRow.data).label("size"),
        ).where(
            ArrayRow.run_id.in_([run.run_id for run in runs]),
            ArrayRow.name.in_(("full_train_predictions", "test_predictions")),
        )
    )
    found: dict[str, list[ArraySize]] = {}
    for row in rows:
        size = ArraySize(row.name, row.dtype, row.shape, row.size)
        found.setdefault(row.run_id, []).append(size)
    return found


def _length(run: Run, arrays: Sequence[ArraySize]) -> int:
    """An upper bound of the characters of a record, without its classes."""
    inline = sum(array.characters for array in arrays if array.characters <= LARGEST_INLINE)
    # JSON writes a control character with six.
    texts = 6 * (len(run.log_messages) + len(run.verdict or ""))
    return inline + texts + _SMALL_FIELDS + len(run.valid_scores) + len(run.test_scores)


def _record(
    connection: Connection,
    run: Run,
    sizes: Sequence[ArraySize],
    classes: Array | None,
    submission_name: str | None,
) -> FoldRecord:
    arrays = {
        size.name: (
            read_array(connection, run.run_id, size.name)
            if size.characters <= LARGEST_INLINE
            else size.in_parts()
        )
        for size in sizes
    }
    # Field by field: `result` is a valid FoldResult, and predictions are large to check again.
    return FoldRecord.model_construct(
        **dict(run.result()),
        new=run.new,
        log_messages=run.log_messages,
        submission_name=submission_name,
        classes=classes,
        full_train_predictions=arrays.get("full_train_predictions"),
        test_predictions=arrays.get("test_predictions"),
    )


def dataset_classes(connection: Connection, name: str, version: str | None) -> Array | None:
    text = connection.scalar(
        select(DatasetVersion.manifest).where(
            DatasetVersion.name == name, DatasetVersion.version == version
        )
    )
    return Manifest.model_validate_json(text).classes if text is not None else None
