"""A submission on a fold as it was posted, and whether it fits what is known."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import Connection, select

from gateway.bodies import SUBMISSION, SUBMISSION_FOLD, SubmissionFoldPost, forced
from gateway.encodings import decoded_indices, file_pieces
from gateway.refusals import Conflict, Forbidden, Refusal, Unprocessable
from schemas.arrays import Array
from schemas.errors import MessageError
from schemas.files import MAX_SUBMISSION_BYTES, File
from schemas.messages import FoldMessage
from schemas.states import Priority
from schemas.wire import first_fault
from storage.models import FileSet
from storage.runs import Run
from storage.users import Account


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


@dataclass(frozen=True)
class KnownSubmission:
    """What a submission's folds so far have brought."""

    files: Mapping[str, bytes]
    dataset: str
    uploader: str | None


def check_fold(
    request: FoldRequest, current: Run | None, submission: KnownSubmission | None, account: Account
) -> None:
    """Whether the fold may be run, or run again. Raises Refusal, Conflict, Forbidden."""
    if current is not None and current.files_digest is not None:
        # First: how another user's fold stands is nobody's business.
        if not (account.is_admin or current.uploader in {None, account.username}):
            raise Forbidden(f"the fold {request.fold_id} belongs to another user")
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
    if (
        submission is not None
        and not account.is_admin
        and submission.uploader not in {None, account.username}
    ):
        raise Forbidden(f"the submission {request.submission_id} belongs to another user")


def chosen_files(request: FoldRequest, submission: KnownSubmission | None) -> Mapping[str, bytes]:
    """The files that the fold is run with. Raises Refusal, Conflict."""
    if submission is None:
        if request.files is None:
            raise Refusal(
                f"the submission {request.submission_id} is not known: its first fold brings its "
                "files and its raw_data"
            )
        return request.files
    if request.files is None or request.files == submission.files:
        return submission.files
    if not request.forces_submission:
        raise Conflict(
            f"the submission {request.submission_id} is known with other files; leave files out "
            'to use those, or replace them with "force": "submission"'
        )
    return request.files


def check_data_set(request: FoldRequest, submission: KnownSubmission | None, name: str) -> None:
    """Whether the fold may be for the data set of that name. Raises Conflict."""
    if submission is None or name == submission.dataset or request.forces_submission:
        return
    raise Conflict(
        f"the submission {request.submission_id} is for the data set {submission.dataset!r}, not "
        f'for {name!r}; to change that, add "force": "submission"'
    )


def fold_message(
    request: FoldRequest,
    *,
    dataset: str,
    files: Mapping[str, bytes],
    pool: str,
    force: bool,
    uploader: str,
) -> FoldMessage:
    """The message that publishes it. Raises Unprocessable."""
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


def stored_files(connection: Connection, digest: str) -> dict[str, bytes]:
    """The files of a submission as the collector keeps them."""
    content = connection.execute(
        select(FileSet.content).where(FileSet.digest == digest)
    ).scalar_one()
    files = json.loads(zlib.decompress(content))
    return {name: File.model_validate(file).to_bytes() for name, file in files.items()}


def _files(given: Mapping[str, bytes]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = MAX_SUBMISSION_BYTES
    for name, text in given.items():
        files[name] = b"".join(file_pieces(name, text, left))
        left -= len(files[name])
    return files
