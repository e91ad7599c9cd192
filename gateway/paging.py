"""`?limit=` and `?offset=`: a part of a long list, and how long all of it is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from schemas.frozen import MAX_ID

Limit = Annotated[int | None, Query(ge=1, le=MAX_ID, description="At most so many.")]
Offset = Annotated[
    int, Query(ge=0, le=MAX_ID, description="Leave out so many, in the order of their ids.")
]

_HEADER = "X-Total-Count"
TOTAL: dict[str, Any] = {
    _HEADER: {
        "description": "How many there are; with `limit` or `offset`.",
        "schema": {"type": "integer"},
    }
}
"""The header in the OpenAPI description."""


def total_header(total: int | None) -> dict[str, str]:
    """The header of an answer that is a part of `total`; none when it is all."""
    return {} if total is None else {_HEADER: str(total)}
