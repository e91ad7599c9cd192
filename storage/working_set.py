"""What one transaction has read, and what it will write: few statements for many messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from schemas.control import RunCancelled
from schemas.frozen import Message
from schemas.topology import CONTROL, RESULTS
from schemas.wire import Envelope
from storage import audit, outbox
from storage.arrays import ArrayName, StoredArray
from storage.models import ArrayRow, FileSet, Fold, HeldEvent, Standing, Submission
from storage.outbox import Outgoing
from storage.runs import Run, insert_runs, load_current_runs, load_runs, update_runs
from storage.upsert import chunks, insert_new, insert_or_update


@dataclass(frozen=True)
class Needs:
    """The ids that a batch of messages names."""

    run_ids: frozenset[str]
    fold_ids: frozenset[int]
    ending_run_ids: frozenset[str]
    """Runs that may get predictions to score."""


@dataclass
class WorkingSet:
    """The rows of one batch, in memory until `flush`."""

    connection: Connection
    now: datetime
    outbox: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[dict[str, Any]] = field(default_factory=list)
    ended: list[Run] = field(default_factory=list)
    """Runs that have got their verdict."""

    written: list[Outgoing] = field(default_factory=list)
    """What `flush` has put into the outbox."""

    _runs: dict[str, Run] = field(default_factory=dict)
    _stored: dict[str, Run] = field(default_factory=dict)
    _current: dict[int, str] = field(default_factory=dict)
    _new_current: dict[int, Run] = field(default_factory=dict)
    _with_held: set[str] = field(default_factory=set)
    _arrays: dict[tuple[str, ArrayName], StoredArray] = field(default_factory=dict)
    _new_arrays: list[StoredArray] = field(default_factory=list)
    _files: dict[str, bytes] = field(default_factory=dict)
    _submissions: dict[int, dict[str, Any]] = field(default_factory=dict)

    def load(self, needs: Needs) -> None:
        """Read the rows that the batch is about."""
        self._runs = load_runs(self.connection, needs.run_ids)
        self._runs |= load_current_runs(self.connection, needs.fold_ids)
        self._current = {
            run.submission_fold_id: run.run_id
            for run in self._runs.values()
            if run.standing is Standing.CURRENT
        }
        self._stored = dict(self._runs)
        for some in chunks(needs.run_ids):
            query = select(HeldEvent.run_id).where(HeldEvent.run_id.in_(some)).distinct()
            self._with_held.update(self.connection.scalars(query))
        for some in chunks(needs.ending_run_ids):
            rows = self.connection.execute(
                select(ArrayRow.run_id, ArrayRow.dtype, ArrayRow.shape, ArrayRow.data).where(
                    ArrayRow.run_id.in_(some), ArrayRow.name == "test_is"
                )
            )
            for row in rows:
                stored = StoredArray(row.run_id, "test_is", row.dtype, row.shape, row.data)
                self._arrays[row.run_id, "test_is"] = stored

    def run(self, run_id: str) -> Run | None:
        """The run of that id, as it stands now."""
        return self._runs.get(run_id)

    def current_run(self, fold_id: int) -> Run | None:
        """The run that counts for a fold."""
        run_id = self._current.get(fold_id)
        return self._runs[run_id] if run_id is not None else None

    def put(self, run: Run) -> None:
        """A new run, or a new state of one."""
        self._runs[run.run_id] = run
        if (
            run.standing is Standing.CURRENT
            and self._current.get(run.submission_fold_id) != run.run_id
        ):
            self._current[run.submission_fold_id] = run.run_id
            self._new_current[run.submission_fold_id] = run

    def test_is(self, run_id: str) -> StoredArray | None:
        """The validation rows of a run."""
        return self._arrays.get((run_id, "test_is"))

    def add_array(self, array: StoredArray) -> None:
        """An array of a run that has none of that name."""
        self._arrays[array.run_id, array.name] = array
        self._new_arrays.append(array)

    def drop_predictions(self, run_id: str) -> None:
        """Delete what a superseded run predicted."""
        self._new_arrays = [array for array in self._new_arrays if array.run_id != run_id]
        self.connection.execute(delete(ArrayRow).where(ArrayRow.run_id == run_id))

    def put_submission(
        self, submission_id: int, digest: str, content: bytes, *, name: str | None, **columns: Any
    ) -> None:
        """The files that a submission has from now on; and its name, unless that is None."""
        self._files[digest] = content
        known = self._submissions.get(submission_id, {})
        self._submissions[submission_id] = {
            "submission_id": submission_id,
            "name": name or known.get("name"),
            "files_digest": digest,
            "published_at": self.now,
            "updated_at": self.now,
            **columns,
        }

    def hold(self, run_id: str, envelope: Envelope, kind: str) -> None:
        """Keep an event until what it needs has come."""
        self._with_held.add(run_id)
        row = {"run_id": run_id, "type": kind, "body": envelope.body, "received_at": self.now}
        self.connection.execute(insert(HeldEvent), [row])

    def release(self, run_id: str) -> list[tuple[str, bytes]]:
        """The type and body of each event that was held for a run; they are held no longer."""
        if run_id not in self._with_held:
            return []
        self._with_held.discard(run_id)
        rows = self.connection.execute(
            select(HeldEvent.type, HeldEvent.body)
            .where(HeldEvent.run_id == run_id)
            .order_by(HeldEvent.id)
        ).all()
        self.connection.execute(delete(HeldEvent).where(HeldEvent.run_id == run_id))
        return [(row.type, row.body) for row in rows]

    def publish(self, exchange: str, message: Message, key: str) -> None:
        """Publish when this transaction is committed."""
        self.outbox.append(outbox.row(exchange, message, key, self.now))

    def publish_result(self, run: Run) -> None:
        """Tell subscribers and workers that a run's verdict is stored."""
        self.ended.append(run)
        self.publish(RESULTS, run.result(), run.result_key)

    def stop(self, run: Run, reason: str) -> None:
        """Tell the workers to stop a run, and to drop its message."""
        cancelled = RunCancelled(
            run_id=run.run_id,
            submission_fold_id=run.submission_fold_id,
            reason=reason,
            at=self.now,
        )
        self.publish(CONTROL, cancelled, "run")

    def dead_letter(self, envelope: Envelope, reason: str) -> None:
        """Put a message aside for a person to look at."""
        self.outbox.append(outbox.dead_letter_row(envelope, reason, self.now))

    def ignore(
        self, kind: str, reason: str, run_id: str | None = None, fold_id: int | None = None
    ) -> None:
        """Keep in the audit that a message changed nothing."""
        self.ignored.append(audit.row(kind, reason, run_id, fold_id, self.now))

    def flush(self) -> None:
        """Write everything."""
        connection = self.connection
        rows = [{"digest": digest, "content": content} for digest, content in self._files.items()]
        insert_new(connection, FileSet, rows)
        columns = ("files_digest", "dataset", "uploader", "updated_at")
        for is_named, update in ((True, (*columns, "name")), (False, columns)):
            rows = [row for row in self._submissions.values() if bool(row["name"]) == is_named]
            insert_or_update(connection, Submission, rows, update=update)
        insert_runs(connection, [run for run in self._touched() if run.run_id not in self._stored])
        update_runs(
            connection,
            [
                (self._stored[run.run_id], run)
                for run in self._touched()
                if run.run_id in self._stored
            ],
        )
        folds = [
            {"submission_fold_id": fold_id, "run_id": run.run_id, "generation": run.generation}
            for fold_id, run in self._new_current.items()
        ]
        insert_or_update(connection, Fold, folds, update=("run_id", "generation"))
        insert_new(connection, ArrayRow, [array.row() for array in self._new_arrays])
        self.written = outbox.write(connection, self.outbox)
        audit.write(connection, self.ignored)

    def _touched(self) -> Iterable[Run]:
        return (run for run in self._runs.values() if run is not self._stored.get(run.run_id))
