"""Every example of docs/asyncapi.yaml that programs send is published, and has its effect."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from broker.blobs import read_blob
from schemas.asyncapi.flowers import FLOWERS, UPLOAD
from schemas.permissions import BrokerUser
from schemas.states import DatasetState, FoldState, Visibility
from schemas.topology import StreamQueue, blob_stream
from schemas.wire import Envelope, unpack
from tests.support.asyncapi import FILE
from tests.support.command import Folder
from tests.support.deadline import wait_until
from tests.support.wire import IDLE_POOL, Wire

DOCUMENT = yaml.safe_load(FILE.read_text(encoding="utf-8"))
MESSAGES = DOCUMENT["components"]["messages"]
STREAM = blob_stream(Visibility.RAW, UPLOAD)
WITHIN = 60

Reply = Any
Effect = Callable[[Wire, Reply], None]


def dataset_is_ready(name: str, scorer: str | None = None) -> Effect:
    def look(wire: Wire, _: Reply) -> None:
        def ready() -> bool:
            records = wire.client.datasets(name)
            assert all(record.state is not DatasetState.FAILED for record in records), records
            return any(record.state is DatasetState.READY for record in records)

        wait_until(ready, within=WITHIN, what=f"data set {name}")
        record = wire.client.datasets(name)[0]
        assert record.manifest is not None
        assert scorer is None or scorer in record.manifest.scoring

    return look


def fold_is_tested(fold_id: int, run_id: str | None, generation: int = 1) -> Effect:
    def look(wire: Wire, _: Reply) -> None:
        def has_run() -> bool:
            folds = list(wire.client.folds([fold_id]))
            return bool(folds) and folds[0].generation == generation

        wait_until(has_run, within=WITHIN, what=f"run {generation} of fold {fold_id}")
        [result] = wire.client.follow([fold_id], timeout=WITHIN)
        assert result.state is FoldState.TESTED, result.log_messages
        assert run_id is None or result.run_id == run_id
        assert result.record.valid_scores == {"accuracy": 1.0}

    return look


def fold_waits(wire: Wire, _: Reply) -> None:
    def known() -> bool:
        return bool(list(wire.client.folds([1003])))

    wait_until(known, within=WITHIN, what="the fold")
    [fold] = wire.client.folds([1003])
    assert (fold.state, fold.pool) == (FoldState.TODO, IDLE_POOL)


def fold_is_cancelled(wire: Wire, _: Reply) -> None:
    [result] = wire.client.follow([1003], timeout=WITHIN)
    assert result.state is FoldState.CANCELLED


def first_is_acknowledged(wire: Wire, _: Reply) -> None:
    def old() -> bool:
        return not next(iter(wire.client.folds([1001]))).new

    wait_until(old, within=WITHIN, what="the acknowledgement")


def upload_is_known(wire: Wire, _: Reply) -> None:
    query = f"select owner from blobs where blob = '{UPLOAD}'"

    def known() -> list[Any]:
        return wire.stack.rows(query)

    assert wait_until(known, within=WITHIN, what="the blob's row")[0][0] == "flowers-uploaded-1"


def chunk_is_confirmed(_: Wire, __: Reply) -> None:
    """Publishing has seen to that; what it holds is read once the trailer is there."""


def file_can_be_read(wire: Wire, _: Reply) -> None:
    messages = [example["payload"] for example in MESSAGES["DataMessage"]["examples"]]
    [upload] = [message["uploads"]["flowers.csv"] for message in messages if "uploads" in message]
    target = io.BytesIO()
    read_blob(
        wire.vhost.logins.of(BrokerUser.PREPARER),
        Visibility.RAW,
        UPLOAD,
        target,
        size=upload["size"],
        sha256=upload["sha256"],
    )
    assert target.getvalue().decode() == FLOWERS


def answered(**expected: Any) -> Effect:
    """The reply has these fields; a function says what one must be."""

    def look(_: Wire, reply: Reply) -> None:
        for name, value in expected.items():
            found = getattr(reply, name)
            assert value(found) if callable(value) else found == value, (name, found)

    return look


EFFECTS: Mapping[tuple[str, str], Effect] = {
    ("DataMessage", "typedByHand"): dataset_is_ready("flowers"),
    ("UploadMessage", "beforeAFile"): upload_is_known,
    ("BlobChunk", "onlyChunk"): chunk_is_confirmed,
    ("BlobTrailer", "afterOneChunk"): file_can_be_read,
    ("DataMessage", "largeFile"): dataset_is_ready("flowers_uploaded", "f1_macro"),
    ("DataMessage", "ownSplit"): dataset_is_ready("words"),
    ("FoldMessage", "typedByHand"): fold_is_tested(1001, None),
    ("FoldMessage", "encoded"): fold_is_tested(1002, "fold-1002-1"),
    ("FoldMessage", "otherPool"): fold_waits,
    ("StatusRequest", "howItStands"): answered(workers=lambda workers: len(workers) == 2),
    ("DatasetsRequest", "oneDataSet"): answered(datasets=lambda found: found[0].n_train == 18),
    ("FoldsRequest", "ofASubmission"): answered(folds=lambda found: len(found) == 2),
    ("ResultsRequest", "ofFolds"): answered(
        results=lambda found: all(one.test_predictions.shape == (6, 2) for one in found)
    ),
    ("ResultsRequest", "whatIsNew"): answered(
        results=lambda found: {one.submission_fold_id for one in found} >= {1001, 1002}
    ),
    ("PartRequest", "firstPiece"): answered(data=lambda text: len(text) > 10),
    ("CrossValidateRequest", "threeFolds"): answered(n_train=18, folds=lambda cut: len(cut) == 3),
    ("FoldMessage", "again"): fold_is_tested(1002, "fold-1002-2", generation=2),
    ("AcknowledgeMessage", "typedByHand"): first_is_acknowledged,
    ("AcknowledgeMessage", "byRun"): answered(count=1),
    ("CancelMessage", "typedByHand"): fold_is_cancelled,
}
"""In the order of their story."""


def test_every_example_of_what_programs_send_has_its_effect(wire: Wire) -> None:
    # Given the examples of every message that some operation sends
    operations = {
        reference["$ref"].rpartition("/")[2]: operation
        for operation in DOCUMENT["operations"].values()
        if operation["action"] == "send"
        for reference in operation["messages"]
    }
    examples = {
        (name, example["name"]): example
        for name in operations
        for example in MESSAGES[name]["examples"]
    }
    assert set(examples) == set(EFFECTS)

    for (name, example), effect in EFFECTS.items():
        # When one is published, where the document says and as it stands there
        reply = publish(wire, operations[name], name, examples[name, example])

        # Then it has its effect
        try:
            effect(wire, reply)
        except AssertionError as error:
            error.add_note(f"example {example} of {name}")
            raise


def test_the_command_prints_the_document(tmp_path: Path) -> None:
    assert Folder(tmp_path).json("schema", "--asyncapi") == DOCUMENT


def publish(wire: Wire, operation: Any, name: str, example: Any) -> Reply:
    """By the operation's channel; the reply, if it asks for one."""
    channel = DOCUMENT["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
    exchange = channel["bindings"]["amqp"]["exchange"]["name"]
    payload = example["payload"]
    key = channel["address"].format(
        pool=payload.get("pool", "default") if isinstance(payload, dict) else "", blob=STREAM
    )
    body = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    properties = example.get("headers", {})
    if name == "BlobChunk":
        stream = StreamQueue(STREAM)
        wire.program.channel.queue_declare(
            STREAM, durable=stream.durable, arguments={"x-queue-type": "stream"}
        )
        wire.program.channel.queue_bind(STREAM, exchange, STREAM)
    if "reply_to" not in properties:
        wire.program.publish(exchange, key, body, properties)
        return None
    answer, content = wire.program.ask(exchange, key, body, properties)
    allowed = {
        MESSAGES[item["$ref"].rpartition("/")[2]]["name"] for item in operation["reply"]["messages"]
    }
    assert answer.type in allowed
    assert answer.type != "datarun.error-reply.v1", content
    assert answer.correlation_id == properties["correlation_id"]
    envelope = Envelope(body=json.dumps(content).encode(), routing_key="", type=answer.type)
    return unpack(envelope)
