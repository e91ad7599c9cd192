"""Whatever arrives is a message or raises MessageError, in a sentence of bounded length."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ArrayError, MessageError
from schemas.frozen import MAX_ID, Message
from schemas.messages import (
    DataMessage,
)
from schemas.wire import (
    MAX_MESSAGE_BYTES,
    MESSAGE_TYPES,
    readable_fold_id,
    unpack,
)
from tests.unit.schema_strategies import MANY, arrays_in, dataset, envelope, fold


def decode_wholly(body: bytes, model: type[Message]) -> None:
    """Unpack, and decode every array inside; MessageError is the one error that may come out."""
    with suppress(MessageError):
        message = unpack(envelope(body, model))
        for array in arrays_in(message):
            with suppress(ArrayError):
                array.to_numpy()


@MANY
@given(st.binary(max_size=60), st.sampled_from(list(MESSAGE_TYPES.values())))
def test_arbitrary_bytes_raise_message_error(body: bytes, model: type[Message]):
    decode_wholly(body, model)


DEEP = 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe\x00",
        json.dumps(fold()).encode("utf-16"),
        b"[" * DEEP,
        b'{"a":' * DEEP,
        json.dumps(fold())[:-1].encode()
        + b',"params":'
        + b'{"a":' * DEEP
        + b"1"
        + b"}" * DEEP
        + b"}",
        json.dumps(fold())[:-1].encode() + b',"train_is":' + b"[" * DEEP + b"]" * DEEP + b"}",
        json.dumps(fold())[:-1].encode() + b',"train_is":' + b"[" * 150 + b"1" + b"]" * 150 + b"}",
        json.dumps(fold())[:-1].encode() + b',"submission_fold_id":' + b"9" * 5000 + b"}",
        json.dumps(fold())[:-1].encode() + b',"params":{"a":' + b"9" * 5000 + b"}}",
        json.dumps(fold())[:-1].encode() + b',"submission_fold_id":NaN}',
        json.dumps(fold())[:-1].encode() + b',"limits":{"wall_seconds":Infinity}}',
        json.dumps(fold())[:-1].encode() + b',"params":{"a":NaN}}',
        json.dumps(fold())[:-1].encode() + b',"params":{"a":[-Infinity]}}',
        json.dumps(fold())[:-1].encode() + b',"params":{"a":1e999}}',
        json.dumps(fold())[:-1].encode() + b',"train_is":[0,NaN]}',
        json.dumps(fold(uploader="\ud800")).encode(),
        json.dumps(fold(files={"a.py": "\udfff"})).encode(),
        json.dumps(fold(params={"\ud800": 1})).encode(),
        json.dumps(fold(uploader="a\0b")).encode(),
        json.dumps(fold(params={"a": {"b\0": 1}})).encode(),
        json.dumps(fold(files={"a.py": "x\0"})).encode(),
        json.dumps(fold(files={"a\0.py": "x"})).encode(),
        b" " * (MAX_MESSAGE_BYTES + 1),
    ],
)
def test_a_hostile_body_raises_message_error(body: bytes):
    with pytest.raises(MessageError):
        unpack(envelope(body))


@pytest.mark.parametrize("value", [1.0, 1.5, True, "1", None, -1, 2**63, 10**30, [1]])
@pytest.mark.parametrize("field", ["submission_fold_id", "submission_id"])
def test_an_id_is_an_integer_that_both_databases_hold(field: str, value: Any):
    with pytest.raises(MessageError, match=field):
        unpack(envelope(fold(**{field: value})))


@pytest.mark.parametrize("value", [0, MAX_ID])
def test_the_smallest_and_the_largest_id_are_taken(value: int):
    assert unpack(envelope(fold(submission_fold_id=value))).submission_fold_id == value


@pytest.mark.parametrize(
    "limits",
    [
        {"wall_seconds": 0},
        {"wall_seconds": -1},
        {"wall_seconds": 1e308},
        {"cpu_seconds": 1e12},
        {"memory_bytes": 10**30},
        {"memory_bytes": 0},
        {"memory_bytes": 1.5},
        {"processes": 2**31},
    ],
)
def test_a_limit_that_no_clock_or_rlimit_could_hold_is_refused(limits: dict[str, Any]):
    with pytest.raises(MessageError, match="limits"):
        unpack(envelope(fold(limits=limits)))


def test_of_a_key_given_twice_the_last_counts_for_parsing_and_for_the_run_id():
    # Given a body that gives its fold id twice
    twice = json.dumps(fold())[:-1].encode() + b', "submission_fold_id": 12}'
    once = json.dumps(fold(submission_fold_id=12)).encode()

    # Then every reader sees the last one
    assert unpack(envelope(twice)).submission_fold_id == 12
    assert readable_fold_id(twice) == 12
    assert envelope(twice).run_id == envelope(once).run_id


def test_unknown_fields_are_ignored():
    assert unpack(envelope(fold(colour="red"))) == unpack(envelope(fold()))


def test_an_error_sentence_fits_into_a_header_whatever_the_sender_wrote():
    # Given faults whose place or text the sender chose, of a megabyte
    long = "a" * (1 << 20)
    for body in (
        fold(files={long: 5}),
        fold(files={long + "/": "x"}),
        fold(dataset=long),
        fold(train_is={"dtype": long, "shape": [1], "data": ""}),
    ):
        with pytest.raises(MessageError) as caught:
            unpack(envelope(body))

        # Then the sentence stays short: AMQP headers must fit into one frame
        assert len(str(caught.value)) < 1500
    names = {f"{number}{'a' * 150}.csv": "x" for number in range(2000)}
    with pytest.raises(MessageError) as caught:
        unpack(envelope(dataset(files=names, split={"file": "missing.py"}), DataMessage))
    assert len(str(caught.value)) < 1500


def test_an_error_sentence_names_the_field_once():
    with pytest.raises(MessageError, match=r"message: dataset: 'no such name!'"):
        unpack(envelope(fold(dataset="no such name!")))
