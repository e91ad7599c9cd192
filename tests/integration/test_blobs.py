"""Data-set parts on streams: what only streams can do wrong. The rest is in test_blob_store."""

from __future__ import annotations

import hashlib
import io
import uuid

import pika
import pytest

from broker.blobs import read_blob, write_blob
from schemas.datasets import BlobTrailer
from schemas.errors import AccessRefused, BlobError
from schemas.permissions import BrokerUser
from schemas.states import Visibility
from schemas.topology import CHUNK_HEADER, blob_stream, blobs_exchange
from tests.support.rabbitmq import Vhost
from tests.support.scripted_collector import declared_once

__all__ = ["declared_once"]

PUBLIC = Visibility.PUBLIC


def _new() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def writer(declared: Vhost) -> str:
    """A worker of role prepare, who writes public parts."""
    return declared.logins.of(BrokerUser.PREPARER)


@pytest.fixture
def reader(declared: Vhost) -> str:
    """A worker of folds, who reads them."""
    return declared.logins.of(BrokerUser.WORKER)


def _raw_stream(url: str, blob: str, messages: list[tuple[int | None, bytes]]) -> None:
    """A stream as a broken or hostile writer could leave it."""
    stream = blob_stream(PUBLIC, blob)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare(stream, durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_bind(stream, blobs_exchange(PUBLIC), stream)
        channel.confirm_delivery()
        for number, body in messages:
            headers = None if number is None else {CHUNK_HEADER: number}
            properties = pika.BasicProperties(delivery_mode=2, headers=headers)
            channel.basic_publish(blobs_exchange(PUBLIC), stream, body, properties)


def _trailer(content: bytes, chunks: int) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    trailer = BlobTrailer(chunks=chunks, size=len(content), sha256=digest)
    return trailer.model_dump_json().encode()


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([(0, b"ab"), (2, b"c"), (None, _trailer(b"abc", 2))], "chunk 2 follows where 1 should"),
        ([(0, b"ab"), (None, _trailer(b"abc", 2))], "its trailer counts 2 chunks"),
        ([(0, b"abc"), (None, b"not a trailer")], "trailer is not readable"),
    ],
)
def test_a_stream_that_is_not_whole_is_refused(
    writer: str, reader: str, messages: list[tuple[int | None, bytes]], says: str
) -> None:
    blob = _new()
    _raw_stream(writer, blob, messages)

    with pytest.raises(BlobError, match=says):
        read_blob(
            reader,
            PUBLIC,
            blob,
            io.BytesIO(),
            size=3,
            sha256=hashlib.sha256(b"abc").hexdigest(),
        )


def test_chunks_written_twice_after_a_lost_confirm_are_read_once(writer: str, reader: str) -> None:
    blob, target = _new(), io.BytesIO()
    _raw_stream(
        writer,
        blob,
        [(0, b"a"), (1, b"b"), (0, b"a"), (1, b"b"), (2, b"c"), (None, _trailer(b"abc", 3))],
    )

    sha256 = hashlib.sha256(b"abc").hexdigest()
    read_blob(reader, PUBLIC, blob, target, size=3, sha256=sha256)

    assert target.getvalue() == b"abc"


def test_a_blob_whose_writer_died_does_not_keep_its_reader_for_ever(
    writer: str, reader: str
) -> None:
    blob = _new()
    _raw_stream(writer, blob, [(0, b"a")])

    with pytest.raises(BlobError, match=r"1 of 3 bytes read: nothing more came for 1 s"):
        read_blob(reader, PUBLIC, blob, io.BytesIO(), size=3, sha256="0" * 64, patience=1)


def test_a_wrong_password_is_not_tried_for_a_minute(writer: str) -> None:
    user = pika.URLParameters(writer).credentials.username
    password = pika.URLParameters(writer).credentials.password
    wrong = writer.replace(f"{user}:{password}@", f"{user}:sesame@")

    with pytest.raises(AccessRefused) as caught:
        write_blob(wrong, PUBLIC, _new(), b"x")
    assert "sesame" not in str(caught.value)


def test_writing_where_nothing_is_set_up_names_what_is_missing(vhost: Vhost) -> None:
    with pytest.raises(BlobError, match=r"no exchange 'datarun.blobs.public'"):
        write_blob(vhost.logins.of(BrokerUser.PREPARER), PUBLIC, _new(), b"x")
