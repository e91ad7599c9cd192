"""Data sets under the integer ids of REST: registered there, or brought by a message."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from schemas.messages import DataMessage
from schemas.wire import Envelope
from storage.gateway_models import RawData, WaitingFold
from storage.upsert import insert_new
from storage.working_set import WorkingSet


def remember_published(work: WorkingSet, envelope: Envelope, message: DataMessage) -> None:
    """A message publishes a data set: REST clients find it too, and their folds get its version."""
    row = {
        "name": message.name,
        "target_column": message.target_column,
        "workflow_elements": message.workflow_elements,
        "uploader": envelope.user_id,
        "created_at": work.now,
    }
    of_name = select(RawData.id).where(RawData.name == message.name)
    raw_data_id = work.connection.scalar(of_name)
    if raw_data_id is None:
        # Not without looking: an insert that changes nothing uses up an id all the same.
        insert_new(work.connection, RawData, [row])
        raw_data_id = work.connection.execute(of_name).scalar_one()
    set_split(work.connection, raw_data_id, envelope.run_id, None)


def set_split(connection: Connection, raw_data_id: int, message_id: str, split: str | None) -> None:
    """A DataMessage splits this data: folds accepted from now on get its version, and so do those
    that have waited for a first split.

    split: what REST clients asked for, as JSON; None when nobody did.
    """
    connection.execute(
        update(RawData).where(RawData.id == raw_data_id).values(message_id=message_id, split=split)
    )
    connection.execute(
        update(WaitingFold)
        .where(WaitingFold.raw_data_id == raw_data_id, WaitingFold.message_id.is_(None))
        .values(message_id=message_id)
    )
