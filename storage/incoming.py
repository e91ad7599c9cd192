"""What a delivery brings: a message of ours from where it may come from, or a reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

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
from schemas.topology import (
    DEAD,
    EVENTS,
    KEY_ACKNOWLEDGE,
    KEY_CANCEL,
    KEY_DATA,
    KEY_REQUEST,
    KEY_UPLOAD,
    WORK,
)
from schemas.wire import Envelope, detour, readable_fold_id, unpack
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

_KEYS: dict[str, dict[type[Message], str]] = {
    EVENTS: {
        FoldEvent: "fold.",
        DataReady: "data.",
        DataFailed: "data.",
        UploadMessage: KEY_UPLOAD,
    },
    WORK: {
        DataMessage: KEY_DATA,
        FoldMessage: "folds.",
        AcknowledgeMessage: KEY_ACKNOWLEDGE,
        CancelMessage: KEY_CANCEL,
        UploadMessage: KEY_UPLOAD,
        **dict.fromkeys(get_args(Request), KEY_REQUEST),
    },
}
"""With which routing key a message comes, by exchange; a `.` at its end stands before the rest."""


@dataclass(frozen=True)
class Incoming:
    """One delivery, read."""

    envelope: Envelope
    message: Message | None
    fault: str | None = None
    """Why there is no message."""

    detour: str | None = None
    """Why whatever it says counts for nothing."""

    @property
    def is_dead_letter(self) -> bool:
        """Whether it is a copy of what somebody put aside."""
        return self.envelope.exchange == DEAD


def read(envelope: Envelope) -> Incoming:
    """Parse a body, and check that its exchange and key are those that such messages come by.

    Who may publish where, and with which key, is RabbitMQ's to say (schemas/permissions.py); so a
    verdict that a client publishes where only clients write is no verdict.
    """
    if reason := detour(envelope) or _strayed(envelope):
        return Incoming(envelope, None, reason, reason)
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


def _strayed(envelope: Envelope) -> str | None:
    """Why nobody has sent this here.

    Whoever may read one exchange and write to another can bind them to each other, and that stays:
    every result, or heartbeat, would come by the exchange of work, and be put aside.
    """
    kind = envelope.routing_key.partition(".")[0]
    if envelope.exchange == EVENTS:
        bound = kind in {"fold", "data", KEY_UPLOAD}
    else:
        bound = envelope.exchange in {WORK, DEAD, ""}
    if bound:
        return None
    return f"it came by exchange {envelope.exchange!r} with key {envelope.routing_key!r}"


def _misplaced(envelope: Envelope, message: Message) -> str | None:
    if envelope.exchange == DEAD:
        return None
    keys = {
        exchange: key
        for exchange, kinds in _KEYS.items()
        for kind, key in kinds.items()
        if isinstance(message, kind)
    }
    key = keys.get(envelope.exchange)
    if key is None:
        wanted = " or ".join(keys) or "no queue of the collector"
        return (
            f"a {message.TYPE} message came by exchange {envelope.exchange!r}; "
            f"it belongs to {wanted}"
        )
    if envelope.routing_key == key:
        return None
    if key.endswith(".") and envelope.routing_key.startswith(key):
        return None
    expected = f"{key}<pool>" if isinstance(message, FoldMessage) else key.replace(".", ".<name>")
    return f"a {message.TYPE} message with key {envelope.routing_key!r}: its key is {expected!r}"
