"""Data-set parts on streams: written once, read whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from pathlib import Path

import pika
import pytest

from broker.blobs import CHUNK_BYTES, delete_blob, read_blob, write_blob
from schemas.datasets import BlobTrailer
from schemas.errors import AccessRefused, BlobError
from schemas.states import Visibility
from schemas.topology import CHUNK_HEADER, blob_stream, blobs_exchange

PUBLIC = Visibility.PUBLIC


def _new() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_was_written_is_read_by_any_number_of_readers(admin_url: str, size: int) -> None:
    content, blob = os.urandom(size), _new()

    written = write_blob(admin_url, PUBLIC, blob, content)

    assert written == (size, hashlib.sha256(content).hexdigest())
    for _ in range(2):
        target = io.BytesIO()
        read_blob(admin_url, PUBLIC, blob, target, size=size, sha256=written[1])
        assert target.getvalue() == content


def test_a_hundred_megabytes_go_through_and_progress_is_told(
    admin_url: str, tmp_path: Path
) -> None:
    # Given a file of 100 MB
    source, target, blob = tmp_path / "source", tmp_path / "target", _new()
    source.write_bytes(os.urandom(1 << 20) * 100)
    size = source.stat().st_size

    # When it is written and read
    up: list[int] = []
    down: list[int] = []
    with source.open("rb") as stream:
        _, sha256 = write_blob(admin_url, PUBLIC, blob, stream, on_progress=up.append)
    with target.open("wb") as stream:
        read_blob(
            admin_url,
            PUBLIC,
            blob,
            stream,
            size=size,
            sha256=sha256,
            on_progress=down.append,
        )

    # Then it is the same, and both sides said how far they were, up to the end
    assert hashlib.sha256(target.read_bytes()).hexdigest() == sha256
    for told in (up, down):
        assert told == sorted(told)
        assert told[-1] == size
    delete_blob(admin_url, PUBLIC, blob)


def test_a_blob_that_was_never_written_is_missing(admin_url: str) -> None:
    with pytest.raises(BlobError, match="does not exist"):
        read_blob(admin_url, PUBLIC, _new(), io.BytesIO(), size=1, sha256="0" * 64)


def test_deleting_twice_is_deleting_once(admin_url: str) -> None:
    blob = _new()
    _, sha256 = write_blob(admin_url, PUBLIC, blob, b"x")

    delete_blob(admin_url, PUBLIC, blob)
    delete_blob(admin_url, PUBLIC, blob)

    with pytest.raises(BlobError, match="does not exist"):
        read_blob(admin_url, PUBLIC, blob, io.BytesIO(), size=1, sha256=sha256)


def test_a_blob_of_other_content_than_announced_is_altered(admin_url: str) -> None:
    blob = _new()
    write_blob(admin_url, PUBLIC, blob, b"abc")

    with pytest.raises(BlobError, match=r"altered: its SHA-256"):
        read_blob(
            admin_url,
            PUBLIC,
            blob,
            io.BytesIO(),
            size=3,
            sha256=hashlib.sha256(b"abd").hexdigest(),
        )


@pytest.mark.parametrize(("announced", "says"), [(2, "longer than that"), (4, "ends there")])
def test_a_blob_of_another_size_than_announced_is_refused(
    admin_url: str, announced: int, says: str
) -> None:
    blob, target = _new(), io.BytesIO()
    _, sha256 = write_blob(admin_url, PUBLIC, blob, b"abc")

    with pytest.raises(BlobError, match=says):
        read_blob(admin_url, PUBLIC, blob, target, size=announced, sha256=sha256)

    assert len(target.getvalue()) <= announced


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
    admin_url: str, messages: list[tuple[int | None, bytes]], says: str
) -> None:
    blob = _new()
    _raw_stream(admin_url, blob, messages)

    with pytest.raises(BlobError, match=says):
        read_blob(
            admin_url,
            PUBLIC,
            blob,
            io.BytesIO(),
            size=3,
            sha256=hashlib.sha256(b"abc").hexdigest(),
        )


def test_chunks_written_twice_after_a_lost_confirm_are_read_once(admin_url: str) -> None:
    blob, target = _new(), io.BytesIO()
    _raw_stream(
        admin_url,
        blob,
        [(0, b"a"), (1, b"b"), (0, b"a"), (1, b"b"), (2, b"c"), (None, _trailer(b"abc", 3))],
    )

    sha256 = hashlib.sha256(b"abc").hexdigest()
    read_blob(admin_url, PUBLIC, blob, target, size=3, sha256=sha256)

    assert target.getvalue() == b"abc"


def test_a_blob_whose_writer_died_does_not_keep_its_reader_for_ever(admin_url: str) -> None:
    blob = _new()
    _raw_stream(admin_url, blob, [(0, b"a")])

    with pytest.raises(BlobError, match=r"1 of 3 bytes read: nothing more came for 1 s"):
        read_blob(admin_url, PUBLIC, blob, io.BytesIO(), size=3, sha256="0" * 64, patience=1)


def test_a_wrong_password_is_not_tried_for_a_minute(admin_url: str) -> None:
    user = pika.URLParameters(admin_url).credentials.username
    password = pika.URLParameters(admin_url).credentials.password
    wrong = admin_url.replace(f"{user}:{password}@", f"{user}:sesame@")

    with pytest.raises(AccessRefused) as caught:
        write_blob(wrong, PUBLIC, _new(), b"x")
    assert "sesame" not in str(caught.value)


def test_writing_where_nothing_is_set_up_names_what_is_missing(vhost_url: str) -> None:
    with pytest.raises(BlobError, match=r"no exchange 'datarun.blobs.public'"):
        write_blob(vhost_url, PUBLIC, _new(), b"x")


@pytest.fixture
def vhost_url(vhost: object) -> str:
    return str(vhost.amqp_url)  # type: ignore[attr-defined]
