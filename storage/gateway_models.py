"""The tables that the gateway brings: registered data, folds that wait for a split, users."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.models import Base, BigId, Utc


class RawData(Base):
    """A data set under the integer id that REST clients know it by; one for each name."""

    __tablename__ = "raw_data"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    target_column: Mapped[str | None] = mapped_column(Text)
    workflow_elements: Mapped[str] = mapped_column(Text)
    uploader: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Utc)
    split: Mapped[str | None] = mapped_column(Text)
    """How the latest split cuts it, as JSON; None when a message brought it."""

    message_id: Mapped[str | None] = mapped_column(String(255))
    """The DataMessage of the latest split: folds that are accepted from now on get its version.
    None while nobody has asked for a split."""


class RawFile(Base):
    """One piece of a registered file. Files are kept, since they may be split again otherwise."""

    __tablename__ = "raw_files"

    raw_data_id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    index: Mapped[int] = mapped_column(Integer, primary_key=True)
    """Pieces are put together in the order of this number, from 0."""

    size: Mapped[int] = mapped_column(Integer)
    """Bytes of the piece once inflated."""

    data: Mapped[bytes] = mapped_column(LargeBinary)
    """zlib(the piece)."""


class WaitingFold(Base):
    """A fold that was accepted before its data set was split; published when it is."""

    __tablename__ = "waiting_folds"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    """In the order in which they were accepted, which is that in which they are published."""

    run_id: Mapped[str] = mapped_column(String(255), unique=True)
    raw_data_id: Mapped[int] = mapped_column(BigId, index=True)
    message_id: Mapped[str | None] = mapped_column(String(255), index=True)
    """The DataMessage whose version it gets; None until somebody asks for a split."""

    body: Mapped[bytes] = mapped_column(LargeBinary)
    """The FoldMessage, its data set still without a version."""


class User(Base):
    """Who may use the gateway."""

    __tablename__ = "users"

    username: Mapped[str] = mapped_column(String(100), primary_key=True)
    password_hash: Mapped[str] = mapped_column(Text)
    """argon2id, with its parameters and salt."""

    role: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime] = mapped_column(Utc)
