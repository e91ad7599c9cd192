"""Requests and their replies, from what is committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from schemas.errors import DatabaseAway, RequestError, StorageError
from schemas.frozen import Message
from schemas.requests import (
    CrossValidateRequest,
    DatasetsReply,
    DatasetsRequest,
    ErrorReply,
    FoldsReply,
    FoldsRequest,
    FoldSummary,
    PartReply,
    PartRequest,
    ResultsRequest,
    StatusReply,
)
from schemas.states import TERMINAL, DatasetState, FoldState, Priority
from storage import audit, outbox
from storage.arrays import read_part
from storage.cross_validation import cut_folds
from storage.dataset_records import dataset_records
from storage.engine import dialect, snapshot, transaction
from storage.incoming import Request
from storage.labels import LabelsCache
from storage.models import Dataset, RunRow, Standing
from storage.records import results_page
from storage.runs import attempts_of
from storage.submissions import submission_names
from storage.upsert import chunks
from storage.workers import Workers


@dataclass(frozen=True)
class Answers:
    """Answers requests; used in the database's thread."""

    engine: Engine
    labels: LabelsCache
    workers: Workers
    published: Callable[[], Collection[int]] = tuple
    """Rows that the outbox holds only until the next transaction."""

    def reply(self, request: Request) -> Message:
        """The reply; an ErrorReply says why there is no other."""
        try:
            return self._reply(request)
        except (RequestError, StorageError) as error:
            return ErrorReply(message=str(error), temporary=isinstance(error, DatabaseAway))

    def _reply(self, request: Request) -> Message:
        if isinstance(request, CrossValidateRequest):
            with transaction(self.engine) as connection:
                return cut_folds(connection, request, self.labels)
        with snapshot(self.engine) as connection:
            match request:
                case ResultsRequest():
                    return results_page(connection, request)
                case PartRequest(run_id=run_id, array=array, index=index):
                    return PartReply(data=read_part(connection, run_id, array, index))
                case DatasetsRequest():
                    return DatasetsReply(datasets=dataset_records(connection, request))
        return self._folds(request) if isinstance(request, FoldsRequest) else self._status()

    def _folds(self, request: FoldsRequest) -> FoldsReply:
        matching = [RunRow.standing == Standing.CURRENT]
        if request.submission_id is not None:
            matching.append(RunRow.submission_id == request.submission_id)
        if request.dataset is not None:
            matching.append(RunRow.dataset == request.dataset)
        if request.state is not None:
            matching.append(RunRow.state == request.state)
        by_id = RunRow.submission_fold_id
        query = (
            select(RunRow.__table__)
            .where(*matching, by_id > request.after)
            .order_by(by_id)
            .limit(request.limit + 1)
        )
        count = None
        with snapshot(self.engine) as connection:
            if request.submission_fold_ids is None:
                if request.last is not None:
                    count = connection.scalar(select(func.count()).where(*matching)) or 0
                    ids = select(by_id).where(*matching).order_by(by_id)
                    first = ids.offset(max(0, count - request.last)).limit(1)
                    query = query.where(by_id >= first.scalar_subquery())
                rows = list(connection.execute(query))
            else:
                rows = []
                for some in chunks(sorted(set(request.submission_fold_ids))):
                    rows += connection.execute(query.where(RunRow.submission_fold_id.in_(some)))
                    if len(rows) > request.limit:
                        break
            rows, more = rows[: request.limit], len(rows) > request.limit
            names = submission_names(connection, (row.submission_id for row in rows))
        folds = tuple(
            FoldSummary(
                submission_fold_id=row.submission_fold_id,
                submission_id=row.submission_id,
                submission_name=names.get(row.submission_id),
                dataset=f"{row.dataset}@{row.version}" if row.version else row.dataset,
                state=FoldState(row.state),
                new=row.new and row.state in TERMINAL,
                priority=Priority(row.priority),
                pool=row.pool,
                run_id=row.run_id,
                generation=row.generation,
                attempts=len(attempts_of(row.attempts)),
                worker=row.worker,
                published_at=row.published_at,
            )
            for row in rows
        )
        return FoldsReply(folds=folds, more=more, count=count)

    def _status(self) -> StatusReply:
        with snapshot(self.engine) as connection:
            folds = connection.execute(
                select(RunRow.state, RunRow.pool, func.count())
                .where(RunRow.standing == Standing.CURRENT)
                .group_by(RunRow.state, RunRow.pool)
            ).all()
            by_state: Counter[FoldState] = Counter()
            for state, _, count in folds:
                by_state[FoldState(state)] += count
            datasets = connection.execute(
                select(Dataset.state, func.count()).group_by(Dataset.state)
            ).all()
            new = connection.scalar(
                select(func.count()).where(RunRow.new, RunRow.state.in_(TERMINAL))
            )
            return StatusReply(
                folds=dict(by_state),
                pools={pool: count for state, pool, count in folds if state == FoldState.TODO},
                new=new or 0,
                datasets={DatasetState(state): count for state, count in datasets},
                workers=self.workers.alive(),
                outbox=outbox.depth(connection, self.published()),
                ignored_events=audit.count(connection),
                database=dialect(self.engine),
            )
