"""What submissions are called."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from storage.models import Submission
from storage.upsert import chunks


def submission_names(connection: Connection, submission_ids: Iterable[int]) -> dict[int, str]:
    """Of these submissions, the names of those that have one."""
    found: dict[int, str] = {}
    for some in chunks(set(submission_ids)):
        rows = connection.execute(
            select(Submission.submission_id, Submission.name).where(
                Submission.submission_id.in_(some), Submission.name.is_not(None)
            )
        )
        found |= {row.submission_id: row.name for row in rows}
    return found
