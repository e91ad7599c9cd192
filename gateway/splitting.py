"""Asking for a split: the DataMessage goes into the outbox, and a version comes of it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, select

from gateway.refusals import Forbidden, NotFound, Refusal, Unprocessable
from gateway.registration import CUSTOM_FILE
from schemas.datasets import Custom, HoldOut, Split
from schemas.errors import MessageError
from schemas.files import File
from schemas.messages import DataMessage, UploadedFile
from schemas.states import DatasetState
from schemas.topology import KEY_DATA
from schemas.wire import pack
from storage import outbox
from storage.datasets import publish_dataset
from storage.gateway_models import RawData
from storage.models import Dataset
from storage.raw_data import set_split
from storage.raw_files import RawFileSize, file_sizes, read_pieces
from storage.uploads import large_files
from storage.users import Account
from storage.working_set import WorkingSet

_SPLIT: TypeAdapter[Split] = TypeAdapter(Split)


def find_raw_data(connection: Connection, raw_data_id: int) -> Row[tuple[object, ...]]:
    """The row of a data set. Raises NotFound."""
    row = connection.execute(
        select(RawData.__table__).where(RawData.id == raw_data_id)
    ).one_or_none()
    if row is None:
        raise NotFound(
            f"there is no raw data with id {raw_data_id}; GET rawdata/ lists what there is"
        )
    return row


def request_split(connection: Connection, raw_data_id: int, split: Split, account: Account) -> str:
    """Return the message id of the split: of the one that was asked for before, when it is the same
    and has not failed.

    Raises NotFound, Forbidden, and Refusal when the data set is of the other kind.
    """
    row = find_raw_data(connection, raw_data_id)
    if not (account.is_admin or row.uploader in {None, account.username}):
        raise Forbidden(f"the data set {row.name!r} belongs to another user, who may split it")
    files = file_sizes(connection, raw_data_id)
    _check_kind(row.name, files, split)
    wanted = _SPLIT.dump_json(split).decode()
    if row.split == wanted and row.message_id is not None:
        state = connection.scalar(select(Dataset.state).where(Dataset.message_id == row.message_id))
        if state != DatasetState.FAILED:
            known: str = row.message_id
            return known
    message_id = uuid.uuid4().hex
    large = large_files(files)
    message = _message(connection, row, files, large, split)
    envelope = pack(message, KEY_DATA, message_id=message_id)
    work = WorkingSet(connection, datetime.now(UTC))
    publish_dataset(work, replace(envelope, user_id=message.uploader), message)
    set_split(connection, raw_data_id, message_id, wanted)
    work.outbox.append(
        outbox.accepted_row(envelope, work.now, raw_data_id=raw_data_id if large else None)
    )
    work.flush()
    return message_id


def _check_kind(name: str, files: tuple[RawFileSize, ...], split: Split) -> None:
    if not files:
        raise Refusal(
            f"the data set {name!r} was published by a message, and is split by publishing it again"
        )
    is_custom = any(file.name == CUSTOM_FILE for file in files)
    if is_custom and isinstance(split, HoldOut):
        raise Refusal(f"the data set {name!r} has a python file: use rawdata/customsplit/")
    if not is_custom and isinstance(split, Custom):
        raise Refusal(f"the data set {name!r} has no python file: use rawdata/split/")


def _message(
    connection: Connection,
    row: Row[tuple[object, ...]],
    files: tuple[RawFileSize, ...],
    large: tuple[RawFileSize, ...],
    split: Split,
) -> DataMessage:
    inline = {
        file.name: File.of(b"".join(read_pieces(connection, row.id, file)))
        for file in files
        if file not in large
    }
    # Size is known; the collector fills in the rest once it has uploaded them.
    uploads = {
        file.name: UploadedFile(size=file.size, sha256="0" * 64, blob="pending") for file in large
    }
    try:
        return DataMessage(
            name=row.name,
            target_column=row.target_column,
            workflow_elements=row.workflow_elements,
            files=inline,
            uploads=uploads,
            split=split,
            uploader=row.uploader,
        )
    except MessageError as error:
        raise Unprocessable(str(error)) from error
