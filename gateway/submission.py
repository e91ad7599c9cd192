"""Accepting a submission on a fold: its row, and its message, in one transaction."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError
from sqlalchemy import Connection, Row, select

from gateway.bodies import SUBMISSION, SUBMISSION_FOLD, SubmissionFoldPost, forced
from gateway.encodings import decoded_file, decoded_indices
from gateway.refusals import Conflict, Forbidden, NotFound, Refusal, Unprocessable
from gateway.splitting import find_raw_data
from schemas.arrays import Array
from schemas.datasets import DatasetReference
from schemas.errors import MessageError
from schemas.files import MAX_SUBMISSION_BYTES, File
from schemas.messages import FoldMessage
from schemas.states import DatasetState, Priority
from schemas.topology import folds_key
from schemas.verdicts import Verdict
from schemas.wire import first_fault, pack
from storage import outbox
from storage.folds import publish_fold
from storage.gateway_models import RawData, WaitingFold
from storage.models import Dataset, FileSet, Submission
from storage.runs import Run
from storage.upsert import insert_new
from storage.users import Account
from storage.waiting_folds import fail_unsplit
from storage.working_set import Needs, WorkingSet


@dataclass(frozen=True)
class FoldRequest:
    """A fold as it was posted, decoded."""

    fold_id: int
    submission_id: int
    raw_data_id: int | None
    files: Mapping[str, bytes] | None
    train_is: Array
    test_is: Array
    priority: Priority
    forces_submission: bool
    forces_fold: bool


def read_fold_request(post: SubmissionFoldPost) -> FoldRequest:
    """Decode files and indices. Raises Unprocessable."""
    words = forced(post.force)
    try:
        return FoldRequest(
            fold_id=post.databoard_sf_id,
            submission_id=post.databoard_s_id,
            raw_data_id=post.raw_data,
            files=_files(post.files) if post.files else None,
            train_is=decoded_indices("train_is", post.train_is),
            test_is=decoded_indices("test_is", post.test_is),
            priority=post.priority,
            forces_submission=SUBMISSION in words,
            forces_fold=SUBMISSION_FOLD in words,
        )
    except MessageError as error:
        raise Unprocessable(str(error)) from error


def accept_fold(connection: Connection, request: FoldRequest, account: Account, pool: str) -> str:
    """Store the fold as TODO with its message beside it, and return its run id.

    What the collector would do with the message is done here already, by the same functions; when
    the message comes, it finds the run known. Raises Refusal, NotFound, Forbidden, Conflict.
    """
    run_id = uuid.uuid4().hex
    work = WorkingSet(connection, datetime.now(UTC))
    work.load(Needs(frozenset({run_id}), frozenset({request.fold_id}), frozenset()))
    current = work.current_run(request.fold_id)
    submission = connection.execute(
        select(Submission.__table__).where(Submission.submission_id == request.submission_id)
    ).one_or_none()
    _check_fold(request, current, submission, account)
    files = _chosen_files(connection, request, submission)
    raw_data = _chosen_raw_data(connection, request, submission)
    split = connection.execute(
        select(Dataset.state, Dataset.version, Dataset.verdict).where(
            Dataset.message_id == raw_data.message_id
        )
    ).one_or_none()
    state = split.state if split is not None else DatasetState.TODO
    message = _message(
        request,
        dataset=str(DatasetReference(raw_data.name, split.version if split is not None else None)),
        files=files,
        pool=pool,
        force=current is not None,
        uploader=(submission.uploader if submission is not None else None) or account.username,
    )
    envelope = pack(message, folds_key(pool), message_id=run_id)
    run = publish_fold(work, envelope, message)
    assert run is not None
    stored = work.run(run_id)
    assert stored is not None
    if state == DatasetState.READY:
        work.outbox.append(outbox.accepted_row(message, folds_key(pool), run_id, work.now))
    elif state == DatasetState.FAILED and split is not None:
        fail_unsplit(work, stored, Verdict.model_validate_json(split.verdict))
    else:
        waiting = {
            "run_id": run_id,
            "raw_data_id": raw_data.id,
            "message_id": raw_data.message_id,
            "body": envelope.body,
        }
        insert_new(connection, WaitingFold, [waiting])
    work.flush()
    return run_id


def _files(given: Mapping[str, str]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = MAX_SUBMISSION_BYTES
    for name, text in given.items():
        files[name] = decoded_file(name, text, left)
        left -= len(files[name])
    return files


def _check_fold(
    request: FoldRequest,
    current: Run | None,
    submission: Row[tuple[object, ...]] | None,
    account: Account,
) -> None:
    if current is not None and current.files_digest is not None:
        if not request.forces_fold:
            raise Refusal(
                f"the fold {request.fold_id} exists already (state {current.state}); "
                'to run it again, add "force": "submission_fold"'
            )
        if current.submission_id != request.submission_id:
            raise Conflict(
                f"the fold {request.fold_id} belongs to submission {current.submission_id}, "
                f"not to {request.submission_id}"
            )
        if not (account.is_admin or current.uploader in {None, account.username}):
            raise Forbidden(f"the fold {request.fold_id} belongs to another user")
    if (
        submission is not None
        and not account.is_admin
        and submission.uploader not in {None, account.username}
    ):
        raise Forbidden(f"the submission {request.submission_id} belongs to another user")


def _chosen_files(
    connection: Connection, request: FoldRequest, submission: Row[tuple[object, ...]] | None
) -> Mapping[str, bytes]:
    if submission is None:
        if request.files is None:
            raise Refusal(
                f"the submission {request.submission_id} is not known: its first fold brings its "
                "files and its raw_data"
            )
        return request.files
    known = stored_files(connection, submission.files_digest)
    if request.files is None or request.files == known:
        return known
    if not request.forces_submission:
        raise Conflict(
            f"the submission {request.submission_id} is known with other files; leave files out "
            'to use those, or replace them with "force": "submission"'
        )
    return request.files


def _chosen_raw_data(
    connection: Connection, request: FoldRequest, submission: Row[tuple[object, ...]] | None
) -> Row[tuple[object, ...]]:
    if submission is None:
        if request.raw_data_id is None:
            raise Refusal(
                f"the submission {request.submission_id} is not known: its first fold names its "
                "raw_data"
            )
        return find_raw_data(connection, request.raw_data_id)
    if request.raw_data_id is not None:
        given = find_raw_data(connection, request.raw_data_id)
        if given.name != submission.dataset and not request.forces_submission:
            raise Conflict(
                f"the submission {request.submission_id} is for the data set "
                f"{submission.dataset!r}, not for {given.name!r}; to change that, add "
                '"force": "submission"'
            )
        return given
    inherited = connection.execute(
        select(RawData.__table__).where(RawData.name == submission.dataset)
    ).one_or_none()
    if inherited is None:
        raise NotFound(f"there is no raw data named {submission.dataset!r}; name another raw_data")
    return inherited


def stored_files(connection: Connection, digest: str) -> dict[str, bytes]:
    """The files of a submission as the collector keeps them."""
    content = connection.execute(
        select(FileSet.content).where(FileSet.digest == digest)
    ).scalar_one()
    files = json.loads(zlib.decompress(content))
    return {name: File.model_validate(file).to_bytes() for name, file in files.items()}


def _message(
    request: FoldRequest,
    *,
    dataset: str,
    files: Mapping[str, bytes],
    pool: str,
    force: bool,
    uploader: str,
) -> FoldMessage:
    try:
        return FoldMessage(
            submission_fold_id=request.fold_id,
            submission_id=request.submission_id,
            dataset=dataset,
            files={name: File.of(content) for name, content in files.items()},
            train_is=request.train_is,
            test_is=request.test_is,
            priority=request.priority,
            pool=pool,
            force=force,
            uploader=uploader,
        )
    except ValidationError as error:
        raise Unprocessable(first_fault(error)) from error
