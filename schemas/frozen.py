"""The base of every model: frozen, tolerant of unknown fields, closed to NaN and infinity."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

MAX_ID = 2**63 - 1
"""Largest id: a signed 64-bit integer, the largest of both databases."""

Id = Annotated[int, Field(ge=0, le=MAX_ID, strict=True)]
"""An id given by the publisher: an integer from 0 to 2**63 - 1."""


def storable(text: str) -> str:
    """`text`, with what UTF-8 or PostgreSQL refuses (lone surrogates, NUL) replaced."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


Text = Annotated[
    str, BeforeValidator(lambda value: storable(value) if isinstance(value, str) else value)
]
"""Free text for people, made storable: a submission that prints what no database takes must not
make its own verdict unstorable."""


def _printable(value: object) -> object:
    if not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)


MAX_NAME = 100
"""Characters of a submission's name."""

SubmissionName = Annotated[
    str, BeforeValidator(_printable), Field(min_length=1, max_length=MAX_NAME)
]
"""What people call a submission; shown in terminals, so nothing in it moves a cursor."""

BlobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
"""The id of a blob: a part of a queue's name, and of a path where blobs are kept as files."""


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999 in UTC") from error


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A point in time; with any offset on the wire, in UTC once read (SQLite keeps no offset)."""


class Frozen(BaseModel):
    """A frozen model. Unknown fields are ignored, so that a newer publisher is understood."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Message(Frozen):
    """A model that travels as a message of its own; `TYPE` is its AMQP `type` property."""

    TYPE: ClassVar[str]
