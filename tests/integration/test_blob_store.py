"""Data-set parts wherever they are kept: written once, read whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker import file_systems
from broker.blob_store import BlobStore
from broker.file_systems import PUT_BYTES
from broker.object_store import RANGE_BYTES, ObjectStore
from schemas.blobs import is_stored, new_stored_blob
from schemas.errors import BlobError, ConfigurationError, StoreUnreachable
from schemas.permissions import BrokerUser
from schemas.settings import load_settings
from schemas.states import Visibility
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Logins, Vhost
from tests.support.s3 import S3Server, s3, s3_server
from tests.support.scripted_collector import declared_once
from tests.support.tcp_proxy import TcpProxy

__all__ = ["declared_once", "s3", "s3_server"]

PUBLIC = Visibility.PUBLIC


@pytest.fixture(scope="module")
def s3_store(s3_server: S3Server) -> ObjectStore:
    """One for all tests that do not break the line to it: making one costs half a second."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.environment.items():
            environment.setenv(name, value)
        store = ObjectStore(s3_server.url)
        store.write(PUBLIC, new_stored_blob(), io.BytesIO(b"connects"))
    return store


class Blobs:
    """One place, as the services have it that write, read and delete public parts there."""

    def __init__(self, logins: Logins, objects: ObjectStore | None = None) -> None:
        writer, reader, collector = (
            BlobStore(logins.of(user), objects)
            for user in (BrokerUser.PREPARER, BrokerUser.WORKER, BrokerUser.COLLECTOR)
        )
        self.new, self.write = writer.new, writer.write
        self.read = reader.read
        self.delete = collector.delete


@pytest.fixture(params=["streams", "file", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """Each place in turn."""
    match request.param:
        case "streams":
            return Blobs(request.getfixturevalue("declared").logins)
        case "file":
            return Blobs(Logins.of_nobody(), ObjectStore(f"file://{tmp_path}"))
        case _:
            return Blobs(Logins.of_nobody(), request.getfixturevalue("s3_store"))


def written(blobs: Blobs | BlobStore, content: bytes) -> tuple[str, int, str]:
    """The id, size and SHA-256 of a new blob."""
    blob = blobs.new()
    return blob, *blobs.write(PUBLIC, blob, content)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_what_was_written_is_read_by_any_number_of_readers(blobs: Blobs, size: int) -> None:
    content = os.urandom(size)

    blob, told_size, sha256 = written(blobs, content)

    assert (told_size, sha256) == (size, hashlib.sha256(content).hexdigest())
    for _ in range(2):
        target = io.BytesIO()
        blobs.read(PUBLIC, blob, target, size=size, sha256=sha256)
        assert target.getvalue() == content


def test_a_large_part_goes_through_in_pieces_and_progress_is_told(
    blobs: Blobs, tmp_path: Path
) -> None:
    # Given a file of several pieces, of which the beginning has been read
    source, target, blob = tmp_path / "source", tmp_path / "target", blobs.new()
    source.write_bytes(b"head" + os.urandom(1 << 20) * 20)
    size = source.stat().st_size - 4
    assert size > PUT_BYTES > RANGE_BYTES

    # When it is written from there, and read
    up: list[int] = []
    down: list[int] = []
    with source.open("rb") as stream:
        stream.seek(4)
        written_size, sha256 = blobs.write(PUBLIC, blob, stream, on_progress=up.append)
    with target.open("wb") as stream:
        blobs.read(PUBLIC, blob, stream, size=size, sha256=sha256, on_progress=down.append)

    # Then it is the same, and both sides said how far they were, up to the end
    assert written_size == size
    assert target.read_bytes() == source.read_bytes()[4:]
    for told in (up, down):
        assert told == sorted(told)
        assert told[-1] == size
    blobs.delete(PUBLIC, blob)


def test_a_part_that_was_never_written_is_missing(blobs: Blobs) -> None:
    written(blobs, b"another one")

    with pytest.raises(BlobError, match="does not exist"):
        blobs.read(PUBLIC, blobs.new(), io.BytesIO(), size=1, sha256="0" * 64)


def test_deleting_twice_is_deleting_once(blobs: Blobs) -> None:
    blob, size, sha256 = written(blobs, b"x")

    blobs.delete(PUBLIC, blob)
    blobs.delete(PUBLIC, blob)

    with pytest.raises(BlobError, match="does not exist"):
        blobs.read(PUBLIC, blob, io.BytesIO(), size=size, sha256=sha256)


def test_a_part_of_other_content_than_announced_is_altered(blobs: Blobs) -> None:
    blob, size, _ = written(blobs, b"abc")
    announced = hashlib.sha256(b"abd").hexdigest()

    with pytest.raises(BlobError, match=r"altered: its SHA-256"):
        blobs.read(PUBLIC, blob, io.BytesIO(), size=size, sha256=announced)


@pytest.mark.parametrize("announced", [0, 2, 4])
def test_a_part_of_another_size_than_announced_is_refused(blobs: Blobs, announced: int) -> None:
    blob, _, sha256 = written(blobs, b"abc")
    target = io.BytesIO()

    with pytest.raises(BlobError, match=r"longer than that|ends there|it has 3 bytes"):
        blobs.read(PUBLIC, blob, target, size=announced, sha256=sha256)

    assert len(target.getvalue()) <= announced


def test_a_visibility_has_parts_of_its_own(blobs: Blobs) -> None:
    blob = blobs.new()
    size, sha256 = blobs.write(Visibility.SECRET, blob, b"labels")

    with pytest.raises(BlobError, match="does not exist"):
        blobs.read(PUBLIC, blob, io.BytesIO(), size=size, sha256=sha256)


def test_a_writer_that_breaks_off_leaves_nothing_that_looks_complete(blobs: Blobs) -> None:
    # Given a writer that is asked to stop when it has written more than one piece
    content, blob = os.urandom(PUT_BYTES + (4 << 20)), blobs.new()

    class Stop(Exception):
        pass

    def stop(done: int) -> None:
        if done > PUT_BYTES:
            raise Stop

    with pytest.raises(Stop):
        blobs.write(PUBLIC, blob, content, on_progress=stop)

    # Then nobody can read it
    sha256 = hashlib.sha256(content).hexdigest()
    if is_stored(blob):
        with pytest.raises(BlobError, match="does not exist"):
            blobs.read(PUBLIC, blob, io.BytesIO(), size=len(content), sha256=sha256)
    blobs.delete(PUBLIC, blob)


def test_a_reader_breaks_off_when_it_is_told_to(blobs: Blobs) -> None:
    class Stop(Exception):
        pass

    def stop(_done: int) -> None:
        raise Stop

    blob, size, sha256 = written(blobs, b"abc")
    with pytest.raises(Stop):
        blobs.read(PUBLIC, blob, io.BytesIO(), size=size, sha256=sha256, on_progress=stop)


def test_a_full_disk_of_the_reader_is_not_taken_for_the_stores(blobs: Blobs) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    blob, size, sha256 = written(blobs, b"abc")
    with pytest.raises(OSError, match="No space left"):
        blobs.read(PUBLIC, blob, Full(), size=size, sha256=sha256)


# --- the object store alone ---


@pytest.fixture
def line(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    """The way to the S3 server, which can be cut."""
    proxy = TcpProxy(("127.0.0.1", s3.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
    yield proxy
    proxy.close()


def test_a_line_that_is_cut_in_the_middle_is_waited_for(s3: S3Server, line: TcpProxy) -> None:
    # Given a part of many pieces, and a line that breaks when some of it is through
    store, blob = ObjectStore(s3.url), new_stored_blob()
    content, target = os.urandom(24 << 20), io.BytesIO()

    def break_once(after: int) -> Callable[[int], None]:
        left = [after]

        def report(done: int) -> None:
            if left and done > left[0]:
                left.clear()
                line.cut()
                threading.Timer(0.7, line.mend).start()

        return report

    # When it is written and read
    size, sha256 = store.write(PUBLIC, blob, io.BytesIO(content), break_once(17 << 20))
    before = line.accepted
    store.read(PUBLIC, blob, target, size=size, sha256=sha256, on_progress=break_once(8 << 20))

    # Then it is whole, on other connections than before
    assert target.getvalue() == content
    assert line.accepted > before


def test_a_store_that_stays_away_is_given_up_after_a_while(s3: S3Server, line: TcpProxy) -> None:
    store, blob = ObjectStore(s3.url, patience=0.5), new_stored_blob()
    size, sha256 = store.write(PUBLIC, blob, io.BytesIO(b"abc"))
    line.cut()

    for attempt in (
        lambda: store.read(PUBLIC, blob, io.BytesIO(), size=size, sha256=sha256),
        lambda: store.write(PUBLIC, new_stored_blob(), io.BytesIO(b"abc")),
        lambda: store.delete(PUBLIC, blob),
    ):
        with pytest.raises(StoreUnreachable, match=r"s3://datarun-parts/challenge/public/.*"):
            attempt()


def test_whoever_waits_for_a_store_that_is_away_can_break_off(s3: S3Server, line: TcpProxy) -> None:
    class Stop(Exception):
        pass

    asked = [0]

    def stop(_done: int) -> None:
        asked[0] += 1
        if asked[0] == 2:
            raise Stop

    line.cut()
    with pytest.raises(Stop):
        ObjectStore(s3.url).read(
            PUBLIC, "stored-x", io.BytesIO(), size=1, sha256="", on_progress=stop
        )


def test_refused_credentials_are_not_tried_for_a_minute_and_not_repeated(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")

    with pytest.raises(BlobError, match=r"DATARUN_BLOBS refuses.*AWS_SECRET_ACCESS_KEY") as caught:
        ObjectStore(s3.url).write(PUBLIC, new_stored_blob(), io.BytesIO(b"abc"))
    assert not isinstance(caught.value, StoreUnreachable)
    assert "sesame" not in str(caught.value)


def test_a_password_in_the_endpoint_is_not_repeated(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://olga:sesame@127.0.0.1:1")

    with pytest.raises(StoreUnreachable) as caught:
        ObjectStore(s3.url, patience=0).read(PUBLIC, "stored-x", io.BytesIO(), size=1, sha256="")
    assert "sesame" not in str(caught.value)


def test_an_upload_that_was_broken_off_leaves_no_parts_behind(
    s3_server: S3Server, s3_store: ObjectStore
) -> None:
    before = s3_server.files()

    def stop(done: int) -> None:
        if done > PUT_BYTES:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        s3_store.write(
            PUBLIC, new_stored_blob(), io.BytesIO(os.urandom(PUT_BYTES + (2 << 20))), stop
        )
    wait_until(lambda: s3_server.files() == before, what="nothing new in the bucket")


def test_a_folder_that_is_not_mounted_is_waited_for_and_not_written_beside(tmp_path: Path) -> None:
    # Given a store on a disk that is not there yet
    root, blob, sha256 = tmp_path / "mounted", "stored-x", hashlib.sha256(b"abc").hexdigest()
    store = ObjectStore(f"file://{root}", patience=0.1)
    for attempt in (
        lambda: store.write(PUBLIC, blob, io.BytesIO(b"abc")),
        lambda: store.read(PUBLIC, blob, io.BytesIO(), size=3, sha256=sha256),
    ):
        with pytest.raises(StoreUnreachable, match="create or mount it"):
            attempt()
    assert not root.exists()

    # When it is mounted while somebody waits
    threading.Timer(0.3, root.mkdir).start()
    ObjectStore(f"file://{root}").write(PUBLIC, blob, io.BytesIO(b"abc"))

    # Then the part is there
    assert (root / "public" / blob).read_bytes() == b"abc"


def test_labels_in_a_folder_are_their_writers_alone(tmp_path: Path) -> None:
    store = ObjectStore(f"file://{tmp_path}")
    for visibility in Visibility:
        store.write(visibility, "stored-x", io.BytesIO(b"abc"))

    modes = {
        visibility: (tmp_path / visibility).stat().st_mode & 0o777 for visibility in Visibility
    }
    assert modes == {Visibility.PUBLIC: 0o755, Visibility.RAW: 0o700, Visibility.SECRET: 0o700}


def test_what_a_killed_writer_left_in_a_folder_is_deleted_with_its_part(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "stored-x.partial").write_bytes(b"half")

    ObjectStore(f"file://{tmp_path}").delete(PUBLIC, "stored-x")

    assert not list((tmp_path / "public").iterdir())


def test_streams_of_before_the_setting_are_still_read(declared: Vhost, s3: S3Server) -> None:
    # Given a part on a stream, and one in the store
    logins = declared.logins
    old = written(Blobs(logins), b"old")
    writer = BlobStore.of(load_settings(blobs=s3.url), logins.of(BrokerUser.PREPARER))
    new = written(writer, b"new")
    both = Blobs(logins, ObjectStore(s3.url))

    # Then a service with the setting reads and deletes both
    for (blob, size, sha256), content in ((old, b"old"), (new, b"new")):
        target = io.BytesIO()
        both.read(PUBLIC, blob, target, size=size, sha256=sha256)
        assert target.getvalue() == content
        both.delete(PUBLIC, blob)

    # And one without it says what it lacks
    with pytest.raises(BlobError, match="give DATARUN_BLOBS"):
        Blobs(logins).read(PUBLIC, new[0], io.BytesIO(), size=new[1], sha256=new[2])


def test_a_store_whose_package_is_not_installed_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"DATARUN_BLOBS.*pip install 'gcsfs'"):
        ObjectStore("gs://bucket")


def test_a_store_that_takes_connections_and_says_nothing_is_given_up_as_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given somebody with little patience, and a store that hangs
    monkeypatch.setattr(file_systems, "LEAST_SILENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{listener.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        store = ObjectStore("s3://bucket", patience=0.1)

        # When he reads, then he knows after one silence
        began = time.monotonic()
        with pytest.raises(StoreUnreachable, match="does not answer"):
            store.read(PUBLIC, "stored-x", io.BytesIO(), size=1, sha256="")
        assert time.monotonic() - began < 5
