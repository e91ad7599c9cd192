"""What an envelope says of a message: its type, its run id, its fold id."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.frozen import Message
from schemas.messages import (
    AcknowledgeMessage,
    CancelMessage,
    DataMessage,
    FoldMessage,
)
from schemas.states import Priority
from schemas.wire import (
    Envelope,
    model_of,
    readable_fold_id,
    unpack,
)
from tests.unit.schema_strategies import MANY, fold

DEEP = 100_000


@pytest.mark.parametrize(
    ("routing_key", "model"),
    [
        ("data", DataMessage),
        ("folds.default", FoldMessage),
        ("folds.gpu_2", FoldMessage),
        ("acknowledge", AcknowledgeMessage),
        ("cancel", CancelMessage),
    ],
)
def test_the_routing_key_implies_the_type_of_a_message_without_one(
    routing_key: str, model: type[Message]
):
    assert model_of(Envelope(body=b"", routing_key=routing_key)) is model


def test_a_fold_pasted_into_the_console_is_read():
    # Given lists for indices, plain text for files, and no properties
    message = unpack(Envelope(json.dumps(fold(priority="H")).encode(), "folds.default"))

    # Then it is a fold
    assert isinstance(message, FoldMessage)
    assert message.train_is.to_numpy().tolist() == [0, 1, 2]
    assert message.files["classifier.py"].to_bytes() == b"class Classifier: pass\n"
    assert message.priority is Priority.H


def test_the_type_property_goes_before_the_routing_key():
    assert model_of(Envelope(b"", "data", type="datarun.fold.v1")) is FoldMessage


@pytest.mark.parametrize(
    "key", ["", "fold.1", "datarun.folds.default", "Data", "request", "data.x"]
)
def test_a_routing_key_that_implies_no_type_is_said(key: str):
    with pytest.raises(MessageError, match="no type property"):
        model_of(Envelope(b"{}", key))


def test_an_unknown_major_version_is_named():
    with pytest.raises(MessageError, match=r"version 2 of datarun\.fold"):
        unpack(Envelope(json.dumps(fold()).encode(), "folds.default", type="datarun.fold.v2"))


@pytest.mark.parametrize(
    "name", ["datarun.nothing.v1", "application/json", "datarun.fold.v1\n", "x" * 10_000, "\ud800"]
)
def test_an_unknown_type_is_refused(name: str):
    with pytest.raises(MessageError, match="not known here") as caught:
        unpack(Envelope(json.dumps(fold()).encode(), "folds.default", type=name))
    assert len(str(caught.value)) < 200


def test_the_run_id_is_the_message_id():
    assert Envelope(b"anything", "folds.default", message_id="abc").run_id == "abc"


def test_the_run_id_of_a_message_without_id_depends_on_its_content_alone():
    # Given a body, the same with other whitespace, order and escapes, and another one
    body = fold(uploader="é")
    same = dict(reversed(body.items()))
    first = Envelope(json.dumps(body).encode(), "folds.default")
    spaced = Envelope(json.dumps(same, indent=3, ensure_ascii=False).encode(), "elsewhere")
    other = Envelope(json.dumps(body | {"submission_fold_id": 12}).encode(), "folds.default")

    # Then the run id is the same for the same content, and another for another
    assert first.run_id == spaced.run_id
    assert first.run_id != other.run_id
    assert replace(first, message_id="").run_id == first.run_id
    # And a message id that no database keeps counts as none
    assert replace(first, message_id="a\0b").run_id == first.run_id


@MANY
@given(st.binary(max_size=40))
def test_every_body_has_a_run_id_and_may_have_a_fold_id(body: bytes):
    assert len(Envelope(body, "").run_id) == 64
    readable_fold_id(body)


def test_a_body_nested_too_deeply_or_with_a_huge_number_has_a_run_id():
    for body in (b"[" * DEEP, b'{"submission_fold_id":' + b"9" * 5000 + b"}"):
        assert len(Envelope(body, "").run_id) == 64
        assert readable_fold_id(body) is None


@pytest.mark.parametrize(
    ("body", "fold_id"),
    [
        (b'{"submission_fold_id": 7, "train_is": "nonsense"}', 7),
        (b'{"submission_fold_id": 7.0}', None),
        (b'{"submission_fold_id": true}', None),
        (b'{"submission_fold_id": "7"}', None),
        (b'{"submission_fold_id": -1}', None),
        (b'{"submission_fold_id": 9223372036854775808}', None),
        (b"[7]", None),
        (b"{", None),
    ],
)
def test_the_fold_id_of_a_malformed_message_is_read_where_it_can_be(
    body: bytes, fold_id: int | None
):
    assert readable_fold_id(body) == fold_id
