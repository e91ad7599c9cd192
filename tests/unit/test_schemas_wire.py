"""Every message survives the wire; nothing that arrives raises anything but MessageError."""

from __future__ import annotations

import json
import random
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import ControlNonce, DatasetAnnounced, DatasetWithdrawn, RunCancelled
from schemas.errors import ArrayError, MessageError
from schemas.events import (
    DataFailed,
    DataReady,
    FoldFailed,
    FoldPart,
    FoldReturned,
    FoldStarted,
    FoldTested,
    FoldTrained,
    FoldValidated,
    WorkerHeartbeat,
)
from schemas.frozen import Message
from schemas.messages import (
    AcknowledgeMessage,
    CancelMessage,
    DataMessage,
    FoldMessage,
    UploadMessage,
)
from schemas.results import DatasetResult, FoldResult
from schemas.verdicts import Output
from schemas.wire import (
    MAX_MESSAGE_BYTES,
    MESSAGE_TYPES,
    Envelope,
    pack,
    unpack,
)
from tests.unit.schema_strategies import FEW, arrays_in, envelope, fold, of_model

every_message = pytest.mark.parametrize(
    "model", MESSAGE_TYPES.values(), ids=[model.__name__ for model in MESSAGE_TYPES.values()]
)


def decode_wholly(body: bytes, model: type[Message]) -> None:
    """Unpack, and decode every array inside; MessageError is the one error that may come out."""
    with suppress(MessageError):
        message = unpack(envelope(body, model))
        for array in arrays_in(message):
            with suppress(ArrayError):
                array.to_numpy()


def test_every_message_of_the_design_has_a_type():
    # Given the messages that a producer, a worker and the collector say
    named = {FoldMessage, DataMessage, AcknowledgeMessage, CancelMessage, UploadMessage}
    named |= {FoldStarted, FoldTrained, FoldValidated, FoldPart, FoldTested, FoldFailed}
    named |= {FoldReturned, DataReady, DataFailed, WorkerHeartbeat, FoldResult, DatasetResult}
    named |= {DatasetAnnounced, DatasetWithdrawn, RunCancelled, ControlNonce}

    # Then each is known by its type property
    assert named <= set(MESSAGE_TYPES.values())
    assert all(re.fullmatch(r"datarun\.[a-z-]+\.v1", name) for name in MESSAGE_TYPES)


@every_message
@FEW
@given(data=st.data())
def test_every_message_survives_the_wire(model: type[Message], data: st.DataObject):
    # Given any message of the contract
    message = data.draw(of_model(model))

    # When it is packed and unpacked
    packed = pack(message, "some.key")

    # Then it is the same message, of the type it says
    assert unpack(packed) == message
    assert packed.type == model.TYPE
    assert isinstance(json.loads(packed.body), dict)


@every_message
@FEW
@given(data=st.data())
def test_a_truncated_body_raises_message_error(model: type[Message], data: st.DataObject):
    # Given any message cut short anywhere
    body = pack(data.draw(of_model(model)), "key").body
    length = data.draw(st.integers(0, len(body) - 1))

    # Then it is refused
    with pytest.raises(MessageError):
        unpack(envelope(body[:length], model))


@every_message
@FEW
@given(data=st.data())
def test_a_flipped_bit_raises_message_error_or_nothing(model: type[Message], data: st.DataObject):
    # Given any message with some bits flipped
    body = bytearray(pack(data.draw(of_model(model)), "key").body)
    for bit in data.draw(st.lists(st.integers(0, len(body) * 8 - 1), min_size=1, max_size=4)):
        body[bit // 8] ^= 1 << bit % 8

    # Then nothing but MessageError comes out, also when its arrays are decoded
    decode_wholly(bytes(body), model)


def test_no_single_flipped_bit_or_cut_of_a_fold_raises_anything_else():
    # Given a fold
    body = pack(FoldMessage(**fold(params={"a": [1.5, "x"]})), "folds.default").body

    # When each bit is flipped in turn, and the body cut at each byte
    for bit in range(len(body) * 8):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        decode_wholly(bytes(flipped), FoldMessage)
    for length in range(len(body)):
        with pytest.raises(MessageError):
            unpack(envelope(body[:length]))


def test_packing_says_what_cannot_be_sent():
    # Given a text that UTF-8 or a database refuses, and a message larger than the broker takes
    for uploader in ("\ud800", "a\0b"):
        with pytest.raises(MessageError, match=r"datarun\.fold\.v1"):
            pack(FoldMessage(**fold(uploader=uploader)), "folds.default")
    with pytest.raises(MessageError, match="at most"):
        pack(FoldMessage(**fold(uploader="x" * MAX_MESSAGE_BYTES)), "folds.default")


def test_a_backslash_before_u0000_is_no_nul_character():
    message = FoldMessage(**fold(files={"classifier.py": r"PATTERN = '\u0000'"}))
    assert unpack(pack(message, "folds.default")) == message


def test_all_fields_that_are_missing_are_named():
    body = b'{"submission_fold_id": 1, "submission_id": 1}'
    with pytest.raises(MessageError, match=": dataset, files, train_is, test_is: fields required"):
        unpack(Envelope(body=body, routing_key="folds.default"))


def test_eight_mebibytes_of_files_fit_into_a_fold():
    # Given the largest submission there may be, which does not compress
    content = random.Random(0).randbytes(8 << 20)
    message = FoldMessage(**fold(files={"weights.bin": content}))

    # Then it can be sent, below the 16 MiB that RabbitMQ 4 takes
    packed = pack(message, "folds.default")
    assert len(packed.body) < 16 << 20
    assert unpack(packed).files["weights.bin"].to_bytes() == content


def test_a_submission_that_prints_what_no_database_stores_still_gets_its_verdict():
    # Given output with a NUL and a lone surrogate
    output = Output(stdout="a\0b\ud800c", stderr="fine")

    # Then both are replaced
    assert output.stdout == "a\N{REPLACEMENT CHARACTER}b?c"
    assert output.stderr == "fine"


def test_times_are_in_utc_once_read_and_never_without_an_offset():
    # Given a time with an offset of its own
    cancelled = {"run_id": "a", "submission_fold_id": 1, "reason": "asked"}
    message = unpack(envelope(cancelled | {"at": "2026-11-21T02:30:00+02:00"}, RunCancelled))

    # Then it is the same instant in UTC, since SQLite would drop the offset
    assert isinstance(message, RunCancelled)
    assert message.at.isoformat() == "2026-11-21T00:30:00+00:00"

    # And one without an offset, or outside the calendar in UTC, is refused
    for at in ("2026-11-21T02:30:00", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:00-01:00"):
        with pytest.raises(MessageError, match="at:"):
            unpack(envelope(cancelled | {"at": at}, RunCancelled))


def test_priority_travels_as_the_amqp_priority():
    assert pack(FoldMessage(**fold(priority="H")), "folds.default").priority == 5
    assert pack(FoldMessage(**fold()), "folds.default").priority == 1
    assert pack(CancelMessage(submission_fold_ids=(1,)), "cancel").priority is None


def test_every_packed_message_has_an_id_of_its_own():
    message = CancelMessage(submission_fold_ids=(1,))
    assert pack(message, "cancel").message_id != pack(message, "cancel").message_id
    assert pack(message, "cancel", message_id="abc").run_id == "abc"
