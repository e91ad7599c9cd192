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
from schemas.messages import DataMessage
from schemas.states import Visibility
from storage.database import Database
from storage.engine import open_engine, transaction, upgrade
from storage.models import Blob
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
