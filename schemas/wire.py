"""From a typed message to an AMQP body and properties, and back."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from schemas import control, events, messages, requests, results
from schemas.errors import MessageError
from schemas.frozen import MAX_ID, Message
from schemas.states import Priority
from schemas.topology import DATA_QUEUE, UNREADABLE_HEADERS, folds_queue

MAX_MESSAGE_BYTES = 15 << 20
"""Largest body we publish or read; RabbitMQ 4 takes 16 MiB by default. A submission's files, 8 MiB
at most, take up to 11 MiB in base64, and the fold's indices come on top."""

PART_CHARACTERS = 4 << 20
"""Length of one piece of an array that does not fit into its message."""

MESSAGE_TYPES: Mapping[str, type[Message]] = {
    model.TYPE: model
    for module in (messages, events, results, control, requests)
    for model in vars(module).values()
    if isinstance(model, type) and issubclass(model, Message) and "TYPE" in vars(model)
}
"""Every message of the contract, by the `type` property: `datarun.fold.v1`."""

_MAX_FAULT = 1000
_TYPE = re.compile(r"(datarun\.[a-z-]+)\.v([0-9]{1,9})")


@dataclass(frozen=True)
class Envelope:
    """A message as AMQP carries it, apart from the delivery that brought it."""

    body: bytes
    routing_key: str
    exchange: str = ""
    """Where it was published to; set on what is delivered."""

    type: str | None = None
    message_id: str | None = None
    priority: int | None = None
    timestamp: datetime | None = None
    app_id: str | None = None
    user_id: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    expiration: float | None = None
    """Seconds after which nobody wants the message any more."""

    headers: Mapping[str, Any] = field(default_factory=dict)
    persistent: bool = True

    @property
    def run_id(self) -> str:
        """The message_id; without one, the SHA-256 of the body as canonical JSON.

        A message typed into the management console has no message_id; every reader of its copies
        must come to the same id. One that holds a NUL is as good as none: no database keeps it.
        """
        if self.message_id and "\0" not in self.message_id:
            return self.message_id
        try:
            canonical = json.dumps(
                json.loads(self.body), sort_keys=True, separators=(",", ":")
            ).encode()
        except (ValueError, RecursionError):
            canonical = self.body
        return hashlib.sha256(canonical).hexdigest()


def pack(
    message: Message,
    routing_key: str,
    *,
    message_id: str | None = None,
    app_id: str | None = None,
    reply_to: str | None = None,
    correlation_id: str | None = None,
    expiration: float | None = None,
    persistent: bool = True,
) -> Envelope:
    """Serialize a message of the contract.

    Raises MessageError when its body is too large, or holds what nobody could read or store.
    """
    name = message.TYPE
    try:
        body = message.model_dump_json().encode("utf-8")
    except PydanticSerializationError as error:
        raise MessageError(f"the {name} message cannot be written as JSON: {error}") from error
    _check_body(body, name)
    priority = getattr(message, "priority", None)
    return Envelope(
        body=body,
        routing_key=routing_key,
        type=name,
        message_id=message_id or uuid.uuid4().hex,
        priority=priority.level if isinstance(priority, Priority) else None,
        timestamp=datetime.now(UTC),
        app_id=app_id,
        reply_to=reply_to,
        correlation_id=correlation_id,
        expiration=expiration,
        persistent=persistent,
    )


def unpack(envelope: Envelope) -> Message:
    """Parse a body into the message its type says.

    Raises MessageError, and nothing else, when it is not JSON, of an unknown type or version, or
    has wrong fields.
    """
    model = model_of(envelope)
    _check_body(envelope.body, model.TYPE)
    try:
        return model.model_validate_json(envelope.body)
    except ValidationError as error:
        raise MessageError(f"not a {model.TYPE} message: {first_fault(error)}") from error
    except RecursionError as error:
        raise MessageError(f"not a {model.TYPE} message: nested too deeply") from error


def detour(envelope: Envelope) -> str | None:
    """Why a message is nobody's: it was dead-lettered by a queue that is not one of ours.

    RabbitMQ asks for no right to the routing key when it dead-letters: through a queue of his own,
    whoever may publish to an exchange with some keys could do so with all. What it writes about
    that into the headers nobody can prevent (https://www.rabbitmq.com/docs/dlx#effects).
    """
    if UNREADABLE_HEADERS in envelope.headers:
        return "its headers cannot be read"
    deaths = envelope.headers.get("x-death", ())
    for death in deaths if isinstance(deaths, list | tuple) else [deaths]:
        queue = death.get("queue") if isinstance(death, dict) else None
        if queue != DATA_QUEUE and not str(queue).startswith(folds_queue("")):
            return f"it was dead-lettered by queue {queue!r}, from which nothing is taken"
    return None


def model_of(envelope: Envelope) -> type[Message]:
    """The model of a message: by its type property, else implied by its routing key."""
    name = envelope.type or _implied_type(envelope.routing_key)
    if name is None:
        raise MessageError(
            f"the message has no type property, and routing key {envelope.routing_key[:80]!r} "
            "implies none; use data, folds.<pool>, acknowledge or cancel"
        )
    model = MESSAGE_TYPES.get(name)
    if model is None:
        match = _TYPE.fullmatch(name)
        if match and f"{match.group(1)}.v1" in MESSAGE_TYPES:
            raise MessageError(f"version {match.group(2)} of {match.group(1)} is not known here")
        raise MessageError(f"messages of type {name[:80]!r} are not known here")
    return model


def first_fault(error: ValidationError) -> str:
    """The first fault of a pydantic error, or all fields that are missing, in one sentence.

    Bounded, since it becomes a header of the dead letter, and headers must fit into one AMQP frame.
    """
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    fault = faults[0]
    # Fields that are missing are named together: they are mended together.
    alike = [each for each in faults if each["type"] == fault["type"] == "missing"] or [fault]
    where = ", ".join(".".join(str(step) for step in each["loc"]) for each in alike)
    what = fault["msg"].removeprefix("Value error, ")
    if len(alike) > 1:
        what = "fields required"
    more = len(faults) - len(alike)
    text = f"{where[:200]}: {what}" if where and not what.startswith(f"{where}:") else what
    return text[:_MAX_FAULT] + (f" (and {more} more)" if more else "")


def readable_fold_id(body: bytes) -> int | None:
    """The submission_fold_id of a message that is otherwise malformed, where one can be read."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    fold_id = content.get("submission_fold_id") if isinstance(content, dict) else None
    valid = isinstance(fold_id, int) and not isinstance(fold_id, bool) and 0 <= fold_id <= MAX_ID
    return fold_id if valid else None


def _check_body(body: bytes, name: str) -> None:
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageError(
            f"the {name} message has {len(body)} bytes; at most {MAX_MESSAGE_BYTES} are taken"
        )
    if b"\\u0000" in body and _holds_nul(body):
        raise MessageError(
            f"a text in the {name} message holds a NUL character, which databases refuse; "
            "files that hold one travel as zlib+base64"
        )


def _holds_nul(body: bytes) -> bool:
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return False
    while waiting:
        match waiting.pop():
            case str() as text if "\0" in text:
                return True
            case dict() as content:
                waiting += content.keys()
                waiting += content.values()
            case list() as content:
                waiting += content
    return False


def _implied_type(routing_key: str) -> str | None:
    if routing_key.startswith("folds."):
        return messages.FoldMessage.TYPE
    implied = {
        "data": messages.DataMessage.TYPE,
        "acknowledge": messages.AcknowledgeMessage.TYPE,
        "cancel": messages.CancelMessage.TYPE,
    }
    return implied.get(routing_key)
