"""Accepting folds: their rows, and their messages, in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from gateway.fold_documents import FoldContent
from gateway.refusals import NotFound, Refusal
from gateway.splitting import find_raw_data
from gateway.submission import (
    FoldRequest,
    KnownSubmission,
    check_data_set,
    check_fold,
    chosen_files,
    fold_message,
    stored_files,
)
from schemas.datasets import DatasetReference
from schemas.errors import MessageError
from schemas.messages import FoldMessage
from schemas.states import DatasetState
from schemas.topology import folds_key
from schemas.verdicts import Verdict
from schemas.wire import Envelope, pack
from storage import outbox
from storage.arrays import StoredArray
from storage.folds import publish_fold
from storage.gateway_models import RawData, WaitingFold
from storage.models import Dataset, Submission
from storage.records import dataset_classes
from storage.upsert import chunks, insert_new
from storage.users import Account
from storage.waiting_folds import fail_unsplit
from storage.working_set import Needs, WorkingSet


@dataclass(frozen=True)
class Application:
    """A fold that somebody wants to have accepted."""

    request: FoldRequest
    account: Account


@dataclass(frozen=True)
class AcceptedFold:
    """What became of it."""

    content: FoldContent
    files: dict[str, bytes]

    @property
    def nbytes(self) -> int:
        """Of its files and, as they are stored, its arrays."""
        arrays = sum(len(data) for _, _, data in self.content.arrays.values())
        return arrays + sum(map(len, self.files.values()))


def accept_folds(
    connection: Connection, applications: Sequence[Application], pool: str
) -> list[AcceptedFold | Exception]:
    """Store each fold as TODO with its message beside it, or say why not.

    What the collector would do with a message is done here already, by the same functions; when
    the message comes, it finds the run known.
    """
    batch = _Batch(connection, applications, pool)
    outcomes: list[AcceptedFold | Exception] = []
    for application in applications:
        try:
            outcomes.append(batch.accept(application))
        except (Refusal, MessageError) as refusal:
            # Raised before anything was changed: the other folds of the transaction go on.
            outcomes.append(refusal)
    batch.flush()
    return outcomes


class _Batch:
    """What is known of the data sets and submissions of one transaction: read once for all."""

    def __init__(
        self, connection: Connection, applications: Sequence[Application], pool: str
    ) -> None:
        self._connection = connection
        self._pool = pool
        self._work = WorkingSet(connection, datetime.now(UTC))
        requests = [application.request for application in applications]
        fold_ids = frozenset(request.fold_id for request in requests)
        self._work.load(Needs(frozenset(), fold_ids, frozenset()))
        self._submissions = self._read_submissions({request.submission_id for request in requests})
        self._raw_data: dict[int | str, Row[*tuple[Any, ...]]] = {}
        self._splits: dict[str | None, Row[str, str | None, str | None] | None] = {}
        self._classes: dict[tuple[str, str | None], list[Any] | None] = {}
        self._waiting: list[dict[str, Any]] = []

    def accept(self, application: Application) -> AcceptedFold:
        """Raises Refusal, and MessageError when the message is too large."""
        request, account = application.request, application.account
        work = self._work
        current = work.current_run(request.fold_id)
        submission = self._submissions.get(request.submission_id)
        check_fold(request, current, submission, account)
        files = chosen_files(request, submission)
        raw_data = self._chosen_raw_data(request, submission)
        check_data_set(request, submission, raw_data.name)
        split = self._split(raw_data.message_id)
        version = split.version if split is not None else None
        message = fold_message(
            request,
            dataset=str(DatasetReference(raw_data.name, version)),
            files=files,
            pool=self._pool,
            force=current is not None,
            uploader=(submission.uploader if submission is not None else None) or account.username,
        )
        run_id = uuid.uuid4().hex
        envelope = pack(message, folds_key(self._pool), message_id=run_id)
        publish_fold(work, replace(envelope, user_id=message.uploader), message)
        self._submissions[request.submission_id] = KnownSubmission(
            files, raw_data.name, message.uploader
        )
        self._send(run_id, raw_data, split, envelope)
        return self._accepted(run_id, message, raw_data.id, files)

    def flush(self) -> None:
        """Write everything."""
        insert_new(self._connection, WaitingFold, self._waiting)
        self._work.flush()

    def _send(
        self,
        run_id: str,
        raw_data: Row[*tuple[Any, ...]],
        split: Row[str, str | None, str | None] | None,
        envelope: Envelope,
    ) -> None:
        """Now, or when the split has ended."""
        if split is not None and split.state == DatasetState.READY:
            self._work.outbox.append(outbox.accepted_row(envelope, self._work.now))
        elif split is not None and split.state == DatasetState.FAILED:
            run = self._work.run(run_id)
            assert run is not None
            # A data set that has FAILED has the verdict that says why.
            assert split.verdict is not None
            fail_unsplit(self._work, run, Verdict.model_validate_json(split.verdict))
        else:
            self._waiting.append(
                {
                    "run_id": run_id,
                    "raw_data_id": raw_data.id,
                    "message_id": raw_data.message_id,
                    "body": envelope.body,
                }
            )

    def _accepted(
        self, run_id: str, message: FoldMessage, raw_data_id: int, files: Any
    ) -> AcceptedFold:
        run = self._work.run(run_id)
        assert run is not None
        arrays = [
            StoredArray.of(run_id, "train_is", message.train_is),
            StoredArray.of(run_id, "test_is", message.test_is),
        ]
        key = run.dataset, run.version
        if key not in self._classes:
            found = dataset_classes(self._connection, *key)
            self._classes[key] = found.to_numpy().tolist() if found is not None else None
        content = FoldContent(
            run,
            {array.name: (array.dtype, array.dimensions, array.data) for array in arrays},
            raw_data_id,
            self._classes[key],
        )
        return AcceptedFold(content, dict(files))

    def _read_submissions(self, ids: set[int]) -> dict[int, KnownSubmission]:
        found = {}
        files: dict[str, dict[str, bytes]] = {}
        for some in chunks(ids):
            rows = self._connection.execute(
                select(Submission.__table__).where(Submission.submission_id.in_(some))
            )
            for row in rows:
                if row.files_digest not in files:
                    files[row.files_digest] = stored_files(self._connection, row.files_digest)
                found[row.submission_id] = KnownSubmission(
                    files[row.files_digest], row.dataset, row.uploader
                )
        return found

    def _chosen_raw_data(
        self, request: FoldRequest, submission: KnownSubmission | None
    ) -> Row[*tuple[Any, ...]]:
        if request.raw_data_id is not None:
            if request.raw_data_id not in self._raw_data:
                row = find_raw_data(self._connection, request.raw_data_id)
                self._raw_data[request.raw_data_id] = row
            return self._raw_data[request.raw_data_id]
        if submission is None:
            raise Refusal(
                f"the submission {request.submission_id} is not known: its first fold names its "
                "raw_data"
            )
        name = submission.dataset
        if name not in self._raw_data:
            inherited = self._connection.execute(
                select(RawData.__table__).where(RawData.name == name)
            ).one_or_none()
            if inherited is None:
                raise NotFound(f"there is no raw data named {name!r}; name another raw_data")
            self._raw_data[name] = inherited
        return self._raw_data[name]

    def _split(self, message_id: str | None) -> Row[str, str | None, str | None] | None:
        if message_id not in self._splits:
            self._splits[message_id] = self._connection.execute(
                select(Dataset.state, Dataset.version, Dataset.verdict).where(
                    Dataset.message_id == message_id
                )
            ).one_or_none()
        return self._splits[message_id]
