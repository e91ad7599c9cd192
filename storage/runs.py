"""A run as the collector works on it: a frozen record of its row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update
from sqlalchemy import bindparam as parameter

from schemas.events import Measurements
from schemas.results import FoldResult
from schemas.states import FoldState
from schemas.verdicts import Output, Verdict, log_messages
from storage.models import Fold, RunRow, Standing
from storage.upsert import chunks


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a run by a worker."""

    id: str
    worker: str
    returned: bool = False
    """The worker gave it back unfinished, so it does not count."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a fold. Verdict, measurements and scores are JSON, as the row has them."""

    run_id: str
    submission_fold_id: int
    submission_id: int
    generation: int
    dataset: str
    version: str | None
    pool: str
    priority: str
    published_at: datetime
    files_digest: str | None = None
    limits: str = "{}"
    params: str = "{}"
    uploader: str | None = None
    standing: Standing = Standing.CURRENT
    state: FoldState = FoldState.TODO
    new: bool = True
    attempts: tuple[Attempt, ...] = ()
    worker: str | None = None
    worker_at: datetime | None = None
    verdict: str | None = None
    log_messages: str = ""
    measurements: str = "{}"
    valid_scores: str = "{}"
    test_scores: str = "{}"
    stored_at: datetime | None = None
    cancelled_at: datetime | None = None

    def ended(
        self,
        state: FoldState,
        now: datetime,
        *,
        verdict: Verdict | None = None,
        output: Output | None = None,
        **changes: Any,
    ) -> Run:
        """This run with its verdict."""
        return replace(
            self,
            state=state,
            stored_at=now,
            verdict=verdict.model_dump_json() if verdict else None,
            log_messages=log_messages(verdict, output),
            **changes,
        )

    def result(self) -> FoldResult:
        """What is published once the verdict is stored."""
        assert self.stored_at is not None
        return FoldResult(
            run_id=self.run_id,
            generation=self.generation,
            submission_fold_id=self.submission_fold_id,
            submission_id=self.submission_id,
            dataset=self.dataset,
            version=self.version,
            state=self.state,
            verdict=Verdict.model_validate_json(self.verdict) if self.verdict else None,
            valid_scores=json.loads(self.valid_scores),
            test_scores=json.loads(self.test_scores),
            measurements=Measurements.model_validate_json(self.measurements),
            stored_at=self.stored_at,
            rejected=self.standing is Standing.REJECTED,
        )

    @property
    def result_key(self) -> str:
        """Routing key of `result`."""
        return f"fold.{self.dataset}.{self.submission_fold_id}"


_FIELDS = tuple(field.name for field in fields(Run))
_TABLE = RunRow.metadata.tables[RunRow.__tablename__]
_COLUMNS = tuple(getattr(RunRow, name) for name in _FIELDS)


# Made once: each of them names some thirty columns, and every fold that is posted asks for both.
_BY_RUN_ID = select(*_COLUMNS).where(RunRow.run_id.in_(parameter("ids", expanding=True)))
_BY_FOLD_ID = (
    select(*_COLUMNS)
    .join(Fold, Fold.run_id == RunRow.run_id)
    .where(Fold.submission_fold_id.in_(parameter("ids", expanding=True)))
)


def load_runs(connection: Connection, run_ids: Iterable[str]) -> dict[str, Run]:
    """The runs of these ids that exist."""
    found: dict[str, Run] = {}
    for some in chunks(run_ids):
        rows = connection.execute(_BY_RUN_ID, {"ids": list(some)}).mappings()
        found |= {row["run_id"]: run_from_row(row) for row in rows}
    return found


def load_current_runs(connection: Connection, fold_ids: Iterable[int]) -> dict[str, Run]:
    """The current runs of these folds, by run id."""
    found: dict[str, Run] = {}
    for some in chunks(fold_ids):
        rows = connection.execute(_BY_FOLD_ID, {"ids": list(some)}).mappings()
        found |= {row["run_id"]: run_from_row(row) for row in rows}
    return found


def insert_runs(connection: Connection, runs: Sequence[Run]) -> None:
    """Insert new rows."""
    if runs:
        connection.execute(insert(RunRow), [_to_row(run, _FIELDS) for run in runs])


def update_runs(connection: Connection, changed: Sequence[tuple[Run, Run]]) -> None:
    """Write what differs between each (before, after): one statement per set of columns."""
    by_columns: dict[tuple[str, ...], list[Run]] = {}
    for before, after in changed:
        names = tuple(name for name in _FIELDS if getattr(before, name) is not getattr(after, name))
        if names:
            by_columns.setdefault(names, []).append(after)
    for names, runs in by_columns.items():
        statement = (
            update(_TABLE)
            .where(_TABLE.c.run_id == parameter("of_run"))
            .values({name: parameter(f"to_{name}") for name in names})
        )
        rows = [
            {"of_run": run.run_id}
            | {f"to_{name}": value for name, value in _to_row(run, names).items()}
            for run in runs
        ]
        connection.execute(statement, rows)


def run_columns() -> tuple[Any, ...]:
    """What to select for `run_from_row`."""
    return _COLUMNS


def run_from_row(row: RowMapping) -> Run:
    """A row of `run_columns`."""
    values = dict(row)
    values["standing"] = Standing(values["standing"])
    values["state"] = FoldState(values["state"])
    values["attempts"] = attempts_of(values["attempts"])
    return Run(**values)


def attempts_of(text: str) -> tuple[Attempt, ...]:
    """The attempts of a run, as its row has them."""
    return tuple(Attempt(*values) for values in json.loads(text))


def _to_row(run: Run, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(run, name) for name in names}
    if "attempts" in values:
        attempts = [[attempt.id, attempt.worker, attempt.returned] for attempt in run.attempts]
        values["attempts"] = json.dumps(attempts)
    return values
