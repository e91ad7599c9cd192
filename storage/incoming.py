"""What a delivery brings: a message of ours from where it may come from, or a reason why not."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import MessageError
from schemas.events import DataFailed, DataReady, FoldEvent, FoldFailed, FoldPart, FoldTested
from schemas.frozen import Message
from schemas.messages import (
    AcknowledgeMessage,
    CancelMessage,
    DataMessage,
    FoldMessage,
    UploadMessage,
)
from schemas.requests import (
    CrossValidateRequest,
    DatasetsRequest,
    FoldsRequest,
    PartRequest,
    ResultsRequest,
    StatusRequest,
)
from schemas.topology import DEAD, EVENTS, KEY_DATA, WORK
from schemas.wire import Envelope, readable_fold_id, unpack
from storage.folds import named_folds
from storage.malformed import readable_run_id
from storage.working_set import Needs

Request = (
    ResultsRequest
    | PartRequest
    | DatasetsRequest
    | CrossValidateRequest
    | FoldsRequest
    | StatusRequest
)

_FROM_EVENTS = (FoldEvent, DataReady, DataFailed, UploadMessage)
_FROM_WORK = (
    DataMessage,
    FoldMessage,
    AcknowledgeMessage,
    CancelMessage,
    UploadMessage,
    ResultsRequest,
    PartRequest,
    DatasetsRequest,
    CrossValidateRequest,
    FoldsRequest,
    StatusRequest,
)


@dataclass(frozen=True)
class Incoming:
    """One delivery, read."""

    envelope: Envelope
    message: Message | None
    fault: str | None = None
    """Why there is no message."""

    @property
    def is_dead_letter(self) -> bool:
        """Whether it is a copy of what somebody put aside."""
        return self.envelope.exchange == DEAD


def read(envelope: Envelope) -> Incoming:
    """Parse a body, and check that its exchange is one that such messages come from.

    Who may publish to an exchange is RabbitMQ's to say (users' permissions); so a verdict that a
    client publishes where only clients write is no verdict.
    """
    try:
        message = unpack(envelope)
    except MessageError as error:
        return Incoming(envelope, None, str(error))
    fault = _misplaced(envelope, message)
    return Incoming(envelope, None if fault else message, fault)


def pool_of(envelope: Envelope) -> str | None:
    """The pool to whose queue a message went; None when it went to no queue of folds."""
    key = envelope.routing_key
    if envelope.exchange != WORK or not key.startswith("folds."):
        return None
    return key.removeprefix("folds.")


def needs(batch: list[Incoming]) -> Needs:
    """The ids of runs and folds that these messages are about."""
    run_ids: set[str] = set()
    ending: set[str] = set()
    fold_ids = set(named_folds(item.message for item in batch))
    for item in batch:
        match item.message:
            case FoldEvent(run_id=run_id):
                run_ids.add(run_id)
                if isinstance(item.message, FoldTested | FoldFailed | FoldPart):
                    ending.add(run_id)
            case FoldMessage():
                run_ids.add(item.envelope.run_id)
                ending.add(item.envelope.run_id)
            case AcknowledgeMessage():
                run_ids.update(item.message.run_ids)
            case None:
                run_ids |= {item.envelope.run_id, readable_run_id(item.envelope)}
                fold_id = readable_fold_id(item.envelope.body)
                fold_ids |= set() if fold_id is None else {fold_id}
    return Needs(frozenset(run_ids), frozenset(fold_ids), frozenset(ending))


def _misplaced(envelope: Envelope, message: Message) -> str | None:
    exchange, key = envelope.exchange, envelope.routing_key
    if exchange == DEAD:
        return None
    expected = [
        name
        for name, kinds in ((WORK, _FROM_WORK), (EVENTS, _FROM_EVENTS))
        if isinstance(message, kinds)
    ]
    if exchange not in expected:
        wanted = " or ".join(expected) or "no queue of the collector"
        return f"a {message.TYPE} message came by exchange {exchange!r}; it belongs to {wanted}"
    if isinstance(message, DataMessage) and key != KEY_DATA:
        return f"no worker reads key {key!r}: publish data sets with key {KEY_DATA!r}"
    if isinstance(message, FoldMessage) and not key.startswith("folds."):
        return f"no worker reads key {key!r}: publish folds with key 'folds.<pool>'"
    return None
