"""docs/asyncapi.yaml is what the models say, a valid document, and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import yaml

from schemas.asyncapi.flowers import CLASSIFIER, CLASSIFIER_PACKED
from schemas.files import File
from schemas.requests import DatasetRecord, FoldRecord
from schemas.topology import folds_queue, topology, waiting_queue
from schemas.wire import MESSAGE_TYPES, Envelope, unpack
from tests.support.asyncapi import FILE, ROOT, as_yaml

DOCUMENT = yaml.safe_load(FILE.read_text(encoding="utf-8"))
MESSAGES = DOCUMENT["components"]["messages"]
WITHIN_REPLIES = {FoldRecord.__name__, DatasetRecord.__name__}


IN_STREAMS = {"BlobChunk", "BlobTrailer"}
EXAMPLES = [
    pytest.param(name, example, id=f"{name}-{example['name']}")
    for name, message in MESSAGES.items()
    for example in message["examples"]
]


def references(value: Any) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(target := value.get("$ref"), str):
            yield target
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolved(reference: str) -> Any:
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_the_document_is_not_stale() -> None:
    assert FILE.read_text(encoding="utf-8") == as_yaml(), "write it anew: scripts/asyncapi"


def test_the_document_is_valid_asyncapi() -> None:
    schema = json.loads((ROOT / "tests/vendor/asyncapi/3.0.0.json").read_text(encoding="utf-8"))
    faults = jsonschema_rs.validator_for(schema).iter_errors(DOCUMENT)
    assert [str(fault)[:500] for fault in faults] == []


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 100
    for reference in found:
        assert resolved(reference)


def test_every_message_is_on_some_channel() -> None:
    on_channels = {
        name for channel in DOCUMENT["channels"].values() for name in channel["messages"]
    }
    models = {model.__name__ for model in MESSAGE_TYPES.values()}
    assert on_channels == set(MESSAGES) == (models - WITHIN_REPLIES) | IN_STREAMS


def test_every_exchange_and_queue_and_binding_is_there() -> None:
    # Given what `datarun broker setup` declares
    shared = topology()

    # When the bindings of the document's channels are read, for the default pool
    amqp = [channel["bindings"]["amqp"] for channel in DOCUMENT["channels"].values()]
    exchanges = {
        (item["exchange"]["name"], item["exchange"]["type"]) for item in amqp if "exchange" in item
    }
    queues = {
        item["queue"]["name"].replace("{pool}", "default"): item
        for item in amqp
        if "name" in item.get("queue", {})
    }

    # Then nothing is missing
    assert exchanges - {("", "default")} == {(item.name, item.type) for item in shared.exchanges}
    assert set(queues) == {item.name for item in shared.queues}
    bound = {
        (binding["exchange"], name, binding["routingKey"].replace("{pool}", "default"))
        for name, item in queues.items()
        for binding in item["x-bindings"]
    }
    assert bound == {(item.exchange, item.queue, item.key) for item in shared.bindings}
    assert queues[folds_queue("default")]["x-arguments"]["x-max-priority"] == 5
    assert queues[waiting_queue("default")]["x-arguments"]["x-message-ttl"] == 2000


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_every_example_is_what_its_schema_says(name: str, example: Any) -> None:
    schema = {**MESSAGES[name]["payload"], "components": DOCUMENT["components"]}
    assert jsonschema_rs.Draft7Validator(schema).is_valid(example["payload"])


@pytest.mark.parametrize(
    ("name", "example"), [case for case in EXAMPLES if case.values[0] not in IN_STREAMS]
)
def test_every_example_is_read_by_the_models(name: str, example: Any) -> None:
    body = json.dumps(example["payload"]).encode()
    message = unpack(Envelope(body=body, routing_key="", type=MESSAGES[name]["name"]))
    assert type(message).__name__ == name
    assert example.get("headers", {}).get("type") in {None, message.TYPE}


def test_what_is_packed_in_an_example_is_what_stands_beside_it() -> None:
    packed = File(encoding="zlib+base64", data=CLASSIFIER_PACKED, size=len(CLASSIFIER))
    assert packed.to_bytes().decode() == CLASSIFIER
