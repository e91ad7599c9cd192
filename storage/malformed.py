"""Messages that are none, or that nobody can act on: stored as failures, put aside, counted.

A worker dead-letters what it cannot read of its own queues, and the collector sees a copy of
each dead letter; so it puts aside itself only what no worker gets to see. A dead letter is never
put aside again.
"""

from __future__ import annotations

import json
from typing import Any

from schemas.datasets import is_short_name
from schemas.events import FoldFailed, FoldTested
from schemas.frozen import storable
from schemas.messages import FoldMessage
from schemas.topology import DEAD, EVENTS, KEY_DATA, KEY_REQUEST, REASON_HEADER, SOURCE_HEADER, WORK
from schemas.wire import Envelope
from storage.datasets import reject_dataset
from storage.fold_events import fail_unreadable
from storage.folds import reject_fold, store_unreadable_fold
from storage.models import Standing
from storage.working_set import WorkingSet

_FINAL = {FoldTested.TYPE, FoldFailed.TYPE}


def store_malformed(
    work: WorkingSet, envelope: Envelope, reason: str, unknown_pools: frozenset[str]
) -> None:
    """A body that is no message: keep its fold or data set from staying TODO."""
    key = envelope.routing_key
    _store_failure(work, envelope, key, reason)
    work.ignore(f"malformed {envelope.type or key}", reason, readable_run_id(envelope))
    in_known_pool = key.startswith("folds.") and key.removeprefix("folds.") not in unknown_pools
    seen_by_worker = envelope.exchange == WORK and (key == KEY_DATA or in_known_pool)
    answered = key == KEY_REQUEST and envelope.reply_to is not None
    if not seen_by_worker and not answered:
        work.dead_letter(envelope, reason)


def record_dead_letter(work: WorkingSet, envelope: Envelope, message: object) -> None:
    """A copy of a dead letter: its fold or data set ends with the reason."""
    reason = str(envelope.headers.get(REASON_HEADER, "the message was dead-lettered"))
    source = str(envelope.headers.get(SOURCE_HEADER, envelope.routing_key))
    run = work.run(envelope.run_id)
    if isinstance(message, FoldMessage) and run is not None:
        if not run.state.is_terminal and run.standing is Standing.CURRENT:
            reject_fold(work, run, reason)
    else:
        _store_failure(work, envelope, source, reason)
    work.ignore(f"dead letter {envelope.type or source}", reason, readable_run_id(envelope))


def end_refused(work: WorkingSet, envelope: Envelope, reason: str) -> None:
    """The database refuses a message: its fold or data set ends with the reason."""
    if envelope.exchange != DEAD:
        _store_failure(work, envelope, envelope.routing_key, reason)


def readable_run_id(envelope: Envelope) -> str:
    """The run that a body is about, where one can be read; else that of the message itself."""
    run_id = _content(envelope.body).get("run_id")
    # JSON can hold texts that no database can: with a lone surrogate, or with NUL.
    return run_id if isinstance(run_id, str) and run_id == storable(run_id) else envelope.run_id


def _store_failure(work: WorkingSet, envelope: Envelope, key: str, reason: str) -> None:
    """End the fold or data set that a message is about, if its sender may speak of it at all."""
    if envelope.exchange == EVENTS:
        if envelope.type in _FINAL and key.startswith("fold."):
            fail_unreadable(work, readable_run_id(envelope), reason)
    elif key.startswith("folds."):
        store_unreadable_fold(work, envelope, reason)
    elif key == KEY_DATA:
        name = _content(envelope.body).get("name")
        if isinstance(name, str) and is_short_name(name):
            reject_dataset(work, envelope.run_id, name, reason)


def _content(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
