"""The whole document: what the models, the topology and the examples say, as AsyncAPI 3.0.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.asyncapi.channels import BINDING_VERSION, channels
from schemas.asyncapi.example import Example, Examples
from schemas.asyncapi.operations import TAGS, operations
from schemas.asyncapi.routes import QUESTIONS, REQUESTS
from schemas.asyncapi.sent import SENT
from schemas.asyncapi.told import TOLD
from schemas.datasets import BlobTrailer
from schemas.frozen import Message
from schemas.topology import (
    ACCEPTED_HEADER,
    CHUNK_HEADER,
    DEADLINE_HEADER,
    REASON_HEADER,
    REPLAYED_HEADER,
    SOURCE_HEADER,
)
from schemas.wire import MESSAGE_TYPES

EXAMPLES: Examples = {**SENT, **TOLD}
"""By the name of the message."""

JSON = "application/json"
_BYTES = "application/octet-stream"
_CHUNK = "BlobChunk"
_REFERENCES = "#/components/schemas/{model}"

_DESCRIPTION = """\
datarun trains and tests machine-learning submissions on cross-validation folds. Everything goes
through RabbitMQ (AMQP 0-9-1): programs publish data sets and folds, workers take them, the
collector stores one verdict for each published fold, and answers questions. Operations are those
of a program that uses datarun; channels without one are between datarun's own services.

Bodies are JSON in UTF-8, at most 15 MiB. All AMQP properties are optional on reading: the routing
keys `data`, `folds.<pool>`, `acknowledge` and `cancel` imply the type. Unknown fields are ignored.
`docs/messages.md` says how to publish safely. Queue arguments are those of RabbitMQ 4.0.

Generated from the models (`datarun schema --asyncapi`): change those."""

_CORRELATION_ID = {"type": "string", "description": "Comes back with the reply."}
_TRAITS: dict[str, dict[str, Any]] = {
    "properties": {
        "message_id": {
            "type": "string",
            "description": "The id of the run, or of the data message. Published again with the "
            "same id, a message counts once. Without one, a digest of the body is the id.",
        },
        "type": {"type": "string", "description": "The name of the message, with its version."},
        "content_type": {"type": "string", "const": JSON},
        "delivery_mode": {"type": "integer", "enum": [1, 2], "description": "2: persistent."},
        "timestamp": {"type": "integer", "description": "Unix time in seconds."},
        "app_id": {"type": "string", "description": "The program that publishes."},
        "user_id": {"type": "string", "description": "The RabbitMQ user; RabbitMQ checks it."},
    },
    "request": {
        "reply_to": {"type": "string", "description": "Where the reply goes."},
        "correlation_id": _CORRELATION_ID,
        "expiration": {"type": "string", "description": "Milliseconds, as text."},
    },
    "reply": {"correlation_id": _CORRELATION_ID},
    "work": {
        "priority": {"type": "integer", "minimum": 0, "description": "L is 1, H is 5."},
        REASON_HEADER: {"type": "string", "description": "Of a dead letter: why it is one."},
        SOURCE_HEADER: {
            "type": "string",
            "description": "Of a dead letter: the routing key it was published with.",
        },
        REPLAYED_HEADER: {
            "type": "string",
            "description": "The id of the dead letter in whose place it was published.",
        },
        DEADLINE_HEADER: {
            "type": "integer",
            "description": "Unix time until which a fold waits for its data set.",
        },
        ACCEPTED_HEADER: {"type": "string", "description": "It came by the REST gateway."},
    },
    "chunk": {CHUNK_HEADER: {"type": "integer", "description": "The chunk's number, from 0."}},
}
"""AMQP properties, and headers (`datarun-...`), of several messages."""


def asyncapi() -> dict[str, Any]:
    """The document, in the order in which people read it."""
    models = _models()
    _, schema = models_json_schema(
        [(model, "validation") for model in models.values()], ref_template=_REFERENCES
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "datarun",
            "version": "1.0.0",
            "description": _DESCRIPTION,
            "license": {"name": "BSD-3-Clause"},
            "tags": [{"name": name, "description": says} for name, says in TAGS.items()],
        },
        "defaultContentType": JSON,
        "servers": {
            "rabbitmq": {
                "host": "127.0.0.1:{port}",
                "pathname": "/%2F",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "What `datarun up` starts; `broker` in .datarun/connection.toml is "
                "its whole URL. One of your own, with TLS: amqps.",
                "variables": {"port": {"default": "5672"}},
                "security": [{"$ref": "#/components/securitySchemes/login"}],
            }
        },
        "channels": channels(),
        "operations": operations(),
        "components": {
            "messages": {name: _message(name, models) for name in EXAMPLES},
            "messageTraits": {
                name: {"headers": {"type": "object", "properties": properties}}
                for name, properties in _TRAITS.items()
            },
            "schemas": {name: _draft_07(found) for name, found in schema["$defs"].items()},
            "securitySchemes": {
                "login": {"type": "userPassword", "description": "A user of RabbitMQ."}
            },
        },
    }


def _models() -> dict[str, type[BaseModel]]:
    models: dict[str, type[BaseModel]] = {model.__name__: model for model in MESSAGE_TYPES.values()}
    return models | {BlobTrailer.__name__: BlobTrailer}


def _message(name: str, models: dict[str, type[BaseModel]]) -> dict[str, Any]:
    examples = [_example(example) for example in EXAMPLES[name]]
    if name == _CHUNK:
        return {
            "name": name,
            "title": name,
            "summary": "At most 1 MiB of a file.",
            "contentType": _BYTES,
            **_with_traits("chunk"),
            "payload": {"type": "string", "format": "binary"},
            "examples": examples,
        }
    model = models[name]
    summary, _, rest = cleandoc(model.__doc__ or "").partition("\n")
    message: dict[str, Any] = {"name": name, "title": name, "summary": summary}
    if rest.strip():
        message["description"] = rest.strip()
    if issubclass(model, Message):
        message |= {
            "name": model.TYPE,
            **_with_traits(*_traits(name)),
            "bindings": {"amqp": {"messageType": model.TYPE, "bindingVersion": BINDING_VERSION}},
        }
        if name in REQUESTS or _is_reply(name):
            message["correlationId"] = {"location": "$message.header#/correlation_id"}
    return {
        **message,
        "payload": {"$ref": _REFERENCES.format(model=name)},
        "examples": examples,
    }


def _traits(name: str) -> list[str]:
    traits = ["properties"]
    if name in SENT and name not in QUESTIONS:
        traits.append("work")
    if name in REQUESTS:
        traits.append("request")
    if _is_reply(name):
        traits.append("reply")
    return traits


def _with_traits(*names: str) -> dict[str, Any]:
    return {"traits": [{"$ref": f"#/components/messageTraits/{name}"} for name in names]}


def _is_reply(name: str) -> bool:
    return name in {*REQUESTS.values(), "ErrorReply"}


def _example(example: Example) -> dict[str, Any]:
    headers = {"headers": dict(example.properties)} if example.properties else {}
    return {
        "name": example.name,
        "summary": example.summary,
        **headers,
        "payload": example.payload,
    }


def _draft_07(schema: Any) -> Any:
    """The schema in the words of draft 07, which is AsyncAPI's; pydantic writes 2020-12."""
    if isinstance(schema, list):
        return [_draft_07(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _draft_07(value) for key, value in schema.items()}
    if "prefixItems" in found:
        found["items"] = found.pop("prefixItems")
    return found
