"""The database part of the collector, without a broker: batches in, rows and outbox out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from schemas.frozen import Message
from schemas.requests import FoldRecord, ResultsReply, ResultsRequest
from schemas.wire import Envelope, unpack
from storage import outbox
from storage.answers import Answers
from storage.apply import Applied, Rules, apply_batch
from storage.datasets import NoLabels
from storage.engine import snapshot, transaction
from storage.fold_events import FoldRules
from storage.incoming import Request, read
from storage.labels import FetchedLabels, LabelsCache
from storage.models import IgnoredMessage, RunRow
from storage.workers import Workers
from tests.support import messages


class Store:
    """Applies envelopes as the collector does; `dead` names workers without a heartbeat."""

    def __init__(self, engine: Engine, max_attempts: int = 3) -> None:
        self.engine = engine
        self.dead: set[str] = set()
        self.unknown_pools: frozenset[str] = frozenset()
        self._cache = LabelsCache()
        self._rules = FoldRules(max_attempts, lambda worker: worker not in self.dead, self._cache)
        self._answers = Answers(engine, self._cache, Workers(60))

    def take(
        self,
        *batch: Envelope | Message,
        labels: Mapping[str, FetchedLabels | NoLabels] | None = None,
    ) -> Applied:
        """Apply one batch; what is no envelope comes from a worker."""
        envelopes = [
            item if isinstance(item, Envelope) else messages.from_worker(item) for item in batch
        ]
        rules = Rules(self._rules, labels or {}, self.unknown_pools)
        return apply_batch(self.engine, [read(envelope) for envelope in envelopes], rules)

    def prepare_iris(self, message_id: str = "data-1", **fields: Any) -> None:
        """Publish `iris`, and have it prepared."""
        given = messages.manifest(**fields)
        self.take(messages.from_client(messages.data_message(), "data", message_id=message_id))
        report = messages.data_ready(message_id, given)
        self.take(report, labels={message_id: messages.labels()})

    def ask(self, request: Request) -> Message:
        """The reply to a request."""
        return self._answers.reply(request)

    def record(self, fold_id: int = 11) -> FoldRecord:
        """The stored verdict of a fold."""
        reply = self.ask(ResultsRequest(submission_fold_ids=(fold_id,)))
        assert isinstance(reply, ResultsReply), reply
        (record,) = reply.results
        return record

    def run(self, run_id: str) -> dict[str, Any]:
        """The row of a run."""
        with snapshot(self.engine) as connection:
            query = select(RunRow.__table__).where(RunRow.run_id == run_id)
            return dict(connection.execute(query).mappings().one())

    def published(self, kind: type[Message] | None = None) -> list[tuple[str, Any]]:
        """What the outbox holds, as (exchange, message); dead letters have no message."""
        with snapshot(self.engine) as connection:
            rows = outbox.waiting(connection, 1_000, ())
        found = [
            (row.exchange, row.envelope if row.exchange == "datarun.dead" else unpack(row.envelope))
            for row in rows
        ]
        return [pair for pair in found if kind is None or isinstance(pair[1], kind)]

    def forget_published(self) -> None:
        """Empty the outbox, as if everything were confirmed."""
        with transaction(self.engine) as connection:
            connection.execute(text("DELETE FROM outbox"))

    def ignored(self) -> list[str]:
        """Why messages changed nothing."""
        with snapshot(self.engine) as connection:
            return list(
                connection.scalars(select(IgnoredMessage.reason).order_by(IgnoredMessage.id))
            )

    def content(self, *, but: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
        """Every row of every table that says where runs stand, in a comparable form."""
        tables = ("folds", "runs", "arrays", "parts", "held_events", "submissions", "file_sets")
        with snapshot(self.engine) as connection:
            return {
                table: sorted(
                    (
                        {name: value for name, value in row.items() if name not in but}
                        for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()
                    ),
                    key=lambda row: json.dumps(row, default=str),
                )
                for table in tables
            }


@pytest.fixture
def store(engine: Engine) -> Store:
    """The collector's database part, on each kind of database."""
    return Store(engine)
