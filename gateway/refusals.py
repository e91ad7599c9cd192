"""What a client is refused, and with which status; every answer is JSON with a sentence.

Refusal                 400  what is asked for contradicts what is there
 +-- Unauthorized       401  no user, or a wrong password
 +-- Forbidden          403  it belongs to another user
 +-- NotFound           404  there is nothing of that id
 +-- NotAcceptable      406  files of which it cannot be said what they are
 +-- Conflict           409  something else is there under that id
 +-- TooLarge           413  a body over the limit
 +-- Unprocessable      422  the body is not what is described
 +-- Busy               503  too much at a time; the one that is nobody's mistake
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from schemas.errors import DatarunError


class ErrorDocument(BaseModel):
    """Why a request was refused."""

    detail: str = Field(
        description="One sentence: what was wrong, with what, and what to do.",
        examples=["there is no raw data with id 7; GET rawdata/ lists what there is"],
    )


class Refusal(DatarunError):
    """The client's mistake; nothing was changed."""

    status: ClassVar[int] = 400

    @property
    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"detail": str(self)}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {}


class NameTaken(Refusal):
    """A data set of that name is registered already; worded as in 2016."""

    @property
    def document(self) -> dict[str, Any]:
        """As Django REST framework says it: by field."""
        return {"name": [str(self)]}


class Unauthorized(Refusal):
    """No user, or a wrong password."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        """What makes a browser ask for name and password."""
        return {"WWW-Authenticate": 'Basic realm="datarun", charset="UTF-8"'}


class Forbidden(Refusal):
    """It belongs to another user."""

    status = 403


class NotFound(Refusal):
    """There is nothing of that id."""

    status = 404


class NotAcceptable(Refusal):
    """Files of which it cannot be said what they are."""

    status = 406


class Conflict(Refusal):
    """Something else is there under that id."""

    status = 409


class TooLarge(Refusal):
    """A body over the limit."""

    status = 413

    @property
    def headers(self) -> dict[str, str]:
        """The rest of the body is not read, so nothing else can follow on this connection."""
        return {"Connection": "close"}


class Unprocessable(Refusal):
    """The body is not what is described."""

    status = 422


class Busy(Refusal):
    """Too much at a time: the same request may do well in a moment."""

    status = 503

    @property
    def headers(self) -> dict[str, str]:
        """When to come again, in seconds."""
        return {"Retry-After": "5"}
