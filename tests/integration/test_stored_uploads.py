"""The collector's side of the object store, without a broker: registered files, and the sweep."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from broker.blob_store import BlobStore
from broker.object_store import ObjectStore
from schemas.errors import StoreUnreachable
from schemas.messages import DataMessage
from schemas.states import Visibility
from storage.accepted import AcceptedWork
from storage.database import Database
from storage.engine import open_engine, transaction, upgrade
from storage.models import Blob
from storage.pending import Pending
from storage.publisher import OutboxPublisher
from storage.sweep import Sweep
from storage.uploads import INLINE_BYTES, next_upload, upload_files
from tests.support.rest import IRIS, Rest, packed

NO_BROKER = "amqp://nobody:none@127.0.0.1:1/"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'datarun.sqlite'}")
    upgrade(engine)
    yield engine
    engine.dispose()


def known(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(select(Blob.blob)))


def doom(engine: Engine, *blobs: str) -> None:
    now = datetime.now(UTC)
    rows = [
        {"blob": blob, "visibility": "raw", "owner": "d1", "created_at": now, "delete_at": now}
        for blob in blobs
    ]
    with transaction(engine) as connection:
        connection.execute(insert(Blob), rows)


def test_large_registered_files_are_uploaded_to_the_store(rest: Rest, tmp_path: Path) -> None:
    # Given a registered table that is too large for a message, and its split
    table = IRIS + "1.4,setosa\n" * (INLINE_BYTES // 10)
    blobs = BlobStore(NO_BROKER, ObjectStore(f"file://{tmp_path}"))
    task_id = rest.split(rest.register("iris", files={"iris.csv": packed(table)}))

    # When the collector comes to it
    upload = next_upload(rest.engine, ours=True)
    assert upload is not None
    upload_files(rest.engine, blobs, upload)

    # Then its message names a part of the store, which is known before anybody asks
    (message,) = rest.published(DataMessage)
    uploaded = message.uploads["iris.csv"]
    assert (tmp_path / "raw" / uploaded.blob).read_text() == table
    assert uploaded.sha256 == hashlib.sha256(table.encode()).hexdigest()
    with rest.engine.connect() as connection:
        rows = connection.execute(select(Blob.blob, Blob.owner)).all()
    assert [tuple(row) for row in rows] == [(uploaded.blob, task_id)]


def test_a_try_that_fails_leaves_nothing_behind(rest: Rest, tmp_path: Path) -> None:
    # Given registered files, and a store that is away
    table = IRIS + "1.4,setosa\n" * (INLINE_BYTES // 10)
    root = tmp_path / "store"
    blobs = BlobStore(NO_BROKER, ObjectStore(f"file://{root}", patience=0))
    rest.split(rest.register("iris", files={"iris.csv": packed(table)}))
    upload = next_upload(rest.engine, ours=True)
    assert upload is not None

    # When they are tried twice
    for _ in range(2):
        with pytest.raises(StoreUnreachable):
            upload_files(rest.engine, blobs, upload)

    # Then what those tries would have written is to be deleted, and the message still waits
    with rest.engine.connect() as connection:
        assert None not in connection.scalars(select(Blob.delete_at)).all()
    assert next_upload(rest.engine, ours=True) == upload


async def test_a_collector_that_stops_does_not_wait_for_the_store(
    rest: Rest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an upload that waits for a store, with more patience than anybody has
    table = IRIS + "1.4,setosa\n" * (INLINE_BYTES // 10)
    blobs = BlobStore(NO_BROKER, ObjectStore(f"file://{tmp_path / 'store'}", patience=600))
    rest.split(rest.register("iris", files={"iris.csv": packed(table)}))
    database = Database(rest.engine, asyncio.Event())
    publisher = OutboxPublisher(None, database, Pending(), lambda: True)  # type: ignore[arg-type]
    work = AcceptedWork(database, blobs, publisher, lambda: True)
    uploading = asyncio.create_task(work.upload())
    async with asyncio.timeout(10):
        while "create or mount it" not in caplog.text:
            await asyncio.sleep(0.01)

    # When the collector stops
    uploading.cancel()

    # Then no thread is left that would keep its process alive
    async with asyncio.timeout(10):
        await asyncio.get_running_loop().shutdown_default_executor()
    database.close()


async def test_parts_are_deleted_once_the_store_is_back(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given parts that nothing needs, in a store that is away
    root = tmp_path / "store"
    blobs = BlobStore(NO_BROKER, ObjectStore(f"file://{root}", patience=0))
    root.mkdir()
    for blob in ("stored-a", "stored-b"):
        blobs.write(Visibility.RAW, blob, b"abc")
    away = root.rename(tmp_path / "unmounted")
    doom(engine, "stored-a", "stored-b")
    database = Database(engine, asyncio.Event())
    sweep = Sweep(database, blobs)

    async def until(condition: object) -> None:
        async with asyncio.timeout(10):
            while not condition():  # type: ignore[operator]
                await asyncio.sleep(0.01)

    # When the collector looks for them, none is forgotten
    sweeping = asyncio.create_task(sweep.run())
    await until(lambda: "create or mount it" in caplog.text)
    assert known(engine) == {"stored-a", "stored-b"}

    # Then they are deleted at a look after it is back
    away.rename(root)
    sweep.look()
    await until(lambda: not known(engine))
    assert not list((root / "raw").iterdir())
    sweeping.cancel()
    database.close()
