"""A batch of messages becomes one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from schemas.errors import DatabaseAway
from schemas.events import DataFailed, DataReady, FoldEvent
from schemas.frozen import Message
from schemas.messages import (
    AcknowledgeMessage,
    CancelMessage,
    DataMessage,
    FoldMessage,
    UploadMessage,
)
from schemas.requests import Acknowledged, ErrorReply
from schemas.topology import DEAD
from schemas.wire import Envelope
from storage import datasets, folds, malformed, outbox
from storage.engine import transaction
from storage.fold_events import FoldRules, apply_event, replay_held
from storage.incoming import Incoming, Request, needs, pool_of
from storage.labels import FetchedLabels
from storage.outbox import Outgoing
from storage.runs import Run
from storage.working_set import WorkingSet


@dataclass(frozen=True)
class Rules:
    """What the messages of a batch are judged by, known before its transaction begins."""

    folds: FoldRules
    labels: Mapping[str, FetchedLabels | datasets.NoLabels]
    """Labels of the data sets that this batch reports as ready, by message_id."""

    unknown_pools: frozenset[str]
    """Pools named in the batch that have no queue."""


@dataclass
class Applied:
    """What is to be done once the batch is committed."""

    replies: list[tuple[Envelope, Message]] = field(default_factory=list)
    """Whom to answer, and what."""

    requests: list[tuple[Envelope, Request]] = field(default_factory=list)
    """Questions about the stored state, to be answered from it."""

    outbox: list[Outgoing] = field(default_factory=list)
    """What is to be published."""

    removed: Sequence[int] = ()
    """What the outbox holds no longer."""

    swept: bool = False
    """Whether there may be blobs that nothing needs any more."""

    ended: list[Run] = field(default_factory=list)
    """Runs that have got their verdict."""

    ignored: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the audit of what changed nothing."""

    def __iadd__(self, other: Applied) -> Applied:
        self.replies += other.replies
        self.requests += other.requests
        self.outbox += other.outbox
        self.swept |= other.swept
        self.ended += other.ended
        self.ignored += other.ignored
        return self


def apply_batch(
    engine: Engine, batch: Sequence[Incoming], rules: Rules, published: Sequence[int] = ()
) -> Applied:
    """Apply all messages in one transaction, which removes what is `published` from the outbox.

    Raises DatabaseAway, and then nothing has happened; any other error is the fault of a
    message of this batch, and nothing has happened either.
    """
    applied = Applied()
    if all(isinstance(item.message, Request) and not item.is_dead_letter for item in batch):
        # Questions change nothing; somebody waits for the answers.
        applied.requests += [
            (item.envelope, item.message)
            for item in batch
            if isinstance(item.message, Request) and item.envelope.reply_to
        ]
        return applied
    with transaction(engine) as connection:
        work = WorkingSet(connection, datetime.now(UTC))
        work.load(needs(list(batch)))
        for item in batch:
            _apply(work, item, rules, applied)
        work.flush()
        outbox.remove(connection, published)
    applied.outbox, applied.removed = work.written, published
    applied.ended, applied.ignored = work.ended, work.ignored
    return applied


def set_aside(engine: Engine, envelope: Envelope, reason: str) -> Applied:
    """Put a message that the database refuses among the dead letters, and end its fold.

    Raises DatabaseAway.
    """
    applied = Applied()
    try:
        with transaction(engine) as connection:
            work = WorkingSet(connection, datetime.now(UTC))
            work.load(needs([Incoming(envelope, None, reason)]))
            malformed.end_refused(work, envelope, reason)
            work.flush()
        applied.ended, applied.outbox = work.ended, work.written
    except DatabaseAway:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it must not come again
        # Then the fold cannot be stored at all, but the message must not be lost, too.
        reason = f"{reason}; nor can its failure: {error}"
    with transaction(engine) as connection:
        work = WorkingSet(connection, datetime.now(UTC))
        if envelope.exchange != DEAD:
            work.dead_letter(envelope, reason)
        work.ignore(f"refused {envelope.type or envelope.routing_key}", reason)
        work.flush()
    applied.outbox += work.written
    applied.ignored = work.ignored
    return applied


def _apply(work: WorkingSet, item: Incoming, rules: Rules, applied: Applied) -> None:
    envelope, message = item.envelope, item.message
    count: int | None = None
    if item.detour is not None:
        work.ignore(f"detoured {envelope.type or envelope.routing_key}", item.detour)
        return
    if item.is_dead_letter:
        malformed.record_dead_letter(work, envelope, message)
        return
    match message:
        case None:
            reason = item.fault or "not a message"
            malformed.store_malformed(work, envelope, reason, rules.unknown_pools)
            if envelope.reply_to:
                applied.replies.append((envelope, ErrorReply(message=reason)))
        case FoldEvent():
            apply_event(work, envelope, message, rules.folds)
        case FoldMessage():
            _publish_fold(work, envelope, message, rules)
        case AcknowledgeMessage():
            count = folds.acknowledge(work, message)
        case CancelMessage():
            count = folds.cancel_folds(work, message)
        case DataMessage():
            datasets.publish_dataset(work, envelope, message)
        case UploadMessage():
            datasets.register_blobs(work, message)
        case DataReady():
            applied.swept = True
            datasets.data_ready(work, message, rules.labels.get(message.message_id))
        case DataFailed():
            applied.swept = True
            datasets.data_failed(work, message)
        case _ if isinstance(message, Request) and envelope.reply_to:
            applied.requests.append((envelope, message))
    if count is not None and envelope.reply_to:
        applied.replies.append((envelope, Acknowledged(count=count)))


def _publish_fold(work: WorkingSet, envelope: Envelope, message: FoldMessage, rules: Rules) -> None:
    run = folds.publish_fold(work, envelope, message)
    pool = pool_of(envelope)
    if run is not None and pool in rules.unknown_pools:
        reason = (
            f"pool {pool!r} has no queue, so no worker would ever get this fold; "
            "name the pool in DATARUN_POOLS and run `datarun broker setup`"
        )
        stored = work.run(run.run_id)
        assert stored is not None
        folds.reject_fold(work, stored, reason)
        work.dead_letter(envelope, reason)
    replay_held(work, envelope.run_id, rules.folds)
