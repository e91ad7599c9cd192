"""Channels: each exchange with each kind of routing key, and each queue with its arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.asyncapi.routes import (
    BLOB,
    FOLD_EVENTS,
    POOL,
    QUEUES,
    REQUESTS,
    ROUTES,
    Route,
)
from schemas.topology import Binding, Exchange, Queue, ServerVersion, Topology, topology

BINDING_VERSION = "0.3.0"
SERVER = ServerVersion(4, 0)
"""The RabbitMQ whose queue arguments stand in the document."""

_PARAMETERS = {
    "pool": {
        "description": "The pool of workers: 1 to 40 of letters, digits, `_` and `-`.",
        "default": "default",
    },
    "name": {"description": "The data set's name."},
    "dataset": {"description": "The data set's name, without version; `*` for all."},
    "submission_fold_id": {"description": "The fold's id; `*` for all."},
    "key": {"description": "The routing key that the message was published with."},
    "blob": {
        "description": "`datarun.blob.<visibility>.<id>`, also the name of the stream that holds it"
    },
}


def channels() -> dict[str, Any]:
    """All of them, by id."""
    shared = topology(pools=(POOL,))
    exchanges = {exchange.name: exchange for exchange in shared.exchanges}
    found = {route.id: _route(route, exchanges[route.exchange]) for route in ROUTES}
    # What is left are those of blobs.
    blobs = [exchange for exchange in shared.exchanges if exchange.type == "direct"]
    found |= {_blob_id(exchange): _blobs(exchange) for exchange in blobs}
    found |= {QUEUES[queue.name].id: _queue(queue, shared) for queue in shared.queues}
    return found | {"ownQueue": _own_queue(), "replies": _replies()}


def upload_channels() -> list[str]:
    """The ids of the channels by which files are uploaded."""
    found = [_blob_id(item) for item in topology().exchanges if item.type == "direct"]
    return [name for name in found if name in ("blobs", "blobsRaw")]


def messages(names: Iterable[str]) -> dict[str, Any]:
    """References to messages of the document."""
    return {name: {"$ref": f"#/components/messages/{name}"} for name in dict.fromkeys(names)}


def _route(route: Route, exchange: Exchange) -> dict[str, Any]:
    return {
        "address": route.key,
        "title": f"{exchange.name}, key {route.key}",
        "description": route.says,
        "messages": messages(route.messages),
        **_parameters(route.key),
        "bindings": {"amqp": _exchange(exchange)},
    }


def _exchange(exchange: Exchange) -> dict[str, Any]:
    return {
        "is": "routingKey",
        "exchange": {
            "name": exchange.name,
            "type": exchange.type,
            "durable": True,
            "autoDelete": False,
        },
        "bindingVersion": BINDING_VERSION,
    }


def _blob_id(exchange: Exchange) -> str:
    _, _, visibility = exchange.name.removeprefix("datarun.").partition(".")
    return "blobs" + visibility.capitalize()


def _blobs(exchange: Exchange) -> dict[str, Any]:
    return {
        "address": "{blob}",
        "title": f"{exchange.name}, key the stream's name",
        "description": "Parts of data sets: one stream each, with one writer, who declares and "
        "binds it; chunks of 1 MiB, then a trailer.",
        "messages": messages(BLOB),
        **_parameters("{blob}"),
        "bindings": {"amqp": _exchange(exchange)},
    }


def _queue(queue: Queue, shared: Topology) -> dict[str, Any]:
    read = QUEUES[queue.name]
    bindings = [item for item in shared.bindings if item.queue == queue.name]
    return {
        "address": queue.name,
        "title": f"queue {queue.name}",
        "description": read.says,
        "messages": messages(read.messages),
        **_parameters(queue.name),
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {
                    "name": queue.name,
                    "durable": queue.durable,
                    "exclusive": queue.exclusive,
                    "autoDelete": False,
                },
                "x-arguments": queue.arguments(SERVER),
                "x-bindings": [_binding(item) for item in bindings],
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _binding(binding: Binding) -> dict[str, Any]:
    return {"exchange": binding.exchange, "routingKey": binding.key}


def _own_queue() -> dict[str, Any]:
    """What whoever follows results, or watches, declares."""
    return {
        "address": None,
        "title": "a queue of your own",
        "description": "Whoever follows results or watches declares a queue that RabbitMQ names, "
        "exclusive, and binds it to the exchange by the keys he wants. It is gone with its "
        "connection: afterwards, ask for what is new first.",
        "messages": messages(
            [
                *("FoldResult", "DatasetResult", *FOLD_EVENTS),
                *("DataReady", "DataFailed", "WorkerHeartbeat"),
            ]
        ),
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"durable": False, "exclusive": True, "autoDelete": True},
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _replies() -> dict[str, Any]:
    return {
        "address": None,
        "title": "reply_to",
        "description": "The queue that the request names in `reply_to`, through the default "
        "exchange; best RabbitMQ's own `amq.rabbitmq.reply-to`.",
        "messages": messages([*REQUESTS.values(), "ErrorReply"]),
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": "", "type": "default", "durable": True, "autoDelete": False},
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _parameters(address: str) -> dict[str, Any]:
    found = {name: of for name, of in _PARAMETERS.items() if f"{{{name}}}" in address}
    return {"parameters": found} if found else {}
