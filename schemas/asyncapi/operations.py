"""Operations, as seen by a program that uses datarun: it sends work, and receives results."""

from __future__ import annotations

from typing import Any

from schemas.asyncapi.channels import BINDING_VERSION, upload_channels
from schemas.asyncapi.routes import BLOB, QUESTIONS, REQUESTS

PRODUCER = "producer"
SUBSCRIBER = "subscriber"
OPERATOR = "operator"
TAGS = {
    PRODUCER: "Publishes data sets and folds, and asks about them.",
    SUBSCRIBER: "Follows results as they are stored.",
    OPERATOR: "Watches the workers, and looks after what could not be read.",
}


def operations() -> dict[str, Any]:
    """All of them, by id."""
    found = {
        "sendData": _send("publishData", ["DataMessage"], "Have a data set split"),
        "sendFold": _send(
            "publishFold", ["FoldMessage"], "Have a submission trained and tested on a fold"
        ),
        "sendAcknowledgement": _send(
            "acknowledge",
            ["AcknowledgeMessage"],
            "Results have arrived: they are no longer new. Answered when there is a `reply_to`",
        ),
        "sendCancellation": _send(
            "cancel", ["CancelMessage"], "Stop folds. Answered when there is a `reply_to`"
        ),
        "sendUpload": _send(
            "announceUpload", ["UploadMessage"], "Say which blobs will be written, before they are"
        ),
    }
    for channel in upload_channels():
        found[f"send{channel[0].upper()}{channel[1:]}"] = _send(
            channel, BLOB, "Write a large file, as a blob of visibility `raw`"
        )
    for name in QUESTIONS:
        found[f"ask{name.removesuffix('Request')}"] = _send(
            "ask", [name], "Ask the collector", persistent=False
        )
    return found | {
        "receiveFoldResults": _receive("foldResults", SUBSCRIBER, "A verdict is stored"),
        "receiveDataResults": _receive("dataResults", SUBSCRIBER, "A data set is ready, or failed"),
        "watchFolds": _receive("foldEvents", OPERATOR, "Watch folds while they run"),
        "watchData": _receive("dataEvents", OPERATOR, "Watch data sets being split"),
        "watchWorkers": _receive("heartbeats", OPERATOR, "Watch workers"),
        "receiveDeadLetters": _receive(
            "deadLettersQueue", OPERATOR, "Look at what could not be read, mend it, send it again"
        ),
    }


def _send(channel: str, names: Any, summary: str, *, persistent: bool = True) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "tags": [{"name": PRODUCER}],
        "messages": _on(channel, names),
        "bindings": {
            "amqp": {
                "deliveryMode": 2 if persistent else 1,
                "mandatory": True,
                "bindingVersion": BINDING_VERSION,
            }
        },
    }
    replies = [REQUESTS[name] for name in names if name in REQUESTS]
    if replies:
        operation["reply"] = {
            "address": {
                "location": "$message.header#/reply_to",
                "description": "The AMQP property; its `correlation_id` comes back with the reply.",
            },
            "channel": {"$ref": "#/channels/replies"},
            "messages": _on("replies", [*replies, "ErrorReply"]),
        }
    return operation


def _receive(channel: str, tag: str, summary: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "tags": [{"name": tag}],
        "bindings": {"amqp": {"ack": True, "bindingVersion": BINDING_VERSION}},
    }


def _on(channel: str, names: Any) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]
