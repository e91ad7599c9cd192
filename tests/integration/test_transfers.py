"""What the prepare worker fetches, from a store that is away."""

from __future__ import annotations

import asyncio
import hashlib
import io
from pathlib import Path

import pytest

from broker.blob_store import BlobStore
from broker.object_store import ObjectStore
from consumer.delivery import transfers
from consumer.delivery.transfers import HeldTooLong, Transfers
from schemas.datasets import HoldOut
from schemas.errors import BlobError
from schemas.messages import DataMessage, UploadedFile
from schemas.states import Visibility

CONTENT = b"a,species\n1,x\n2,y\n"
MESSAGE = DataMessage(
    name="iris",
    target_column="species",
    workflow_elements="classifier",
    uploads={
        "iris.csv": UploadedFile(
            size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), blob="stored-x"
        )
    },
    split=HoldOut(0.5),
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a store that is not there."""
    monkeypatch.setattr(transfers, "RETRY_SECONDS", 0.05)
    (tmp_path / "raw").mkdir()
    return tmp_path / "store"


@pytest.fixture
def moving(root: Path) -> Transfers:
    """Nothing is announced when files are fetched, so there is no link."""
    store = ObjectStore(f"file://{root}", patience=0.05)
    blobs = BlobStore("amqp://nobody:none@127.0.0.1:1/", store)
    return Transfers(None, blobs)  # type: ignore[arg-type]


async def test_a_store_that_is_away_for_longer_than_three_tries_is_waited_for(
    root: Path, moving: Transfers, caplog: pytest.LogCaptureFixture
) -> None:
    # Given files that have been tried more often than a data set is otherwise
    fetching = asyncio.create_task(moving.fetch_files(MESSAGE, root.parent / "raw"))
    await until_tried(4, caplog)

    # When the store comes back
    bring_back(root)

    # Then they are fetched
    await asyncio.wait_for(fetching, 20)
    assert (root.parent / "raw" / "iris.csv").read_bytes() == CONTENT


async def test_a_data_set_that_was_waited_for_is_not_split_in_what_is_left_of_its_time(
    root: Path, moving: Transfers, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a delivery that can be held for as long as splitting may take, and waits for the store
    moving.hold(1680, split_seconds=1680)
    fetching = asyncio.create_task(moving.fetch_files(MESSAGE, root.parent / "raw"))
    await until_tried(1, caplog)

    # When the store comes back
    bring_back(root)

    # Then it is given back, and is split when it comes again
    with pytest.raises(HeldTooLong):
        await asyncio.wait_for(fetching, 20)
    moving.hold(1680, split_seconds=1680)
    await asyncio.wait_for(moving.fetch_files(MESSAGE, root.parent / "raw"), 20)


async def test_a_data_set_is_given_back_before_rabbitmq_takes_it_away(
    root: Path, moving: Transfers
) -> None:
    moving.hold(0.2, split_seconds=0)
    with pytest.raises(HeldTooLong):
        await asyncio.wait_for(moving.fetch_files(MESSAGE, root.parent / "raw"), 20)


async def test_a_worker_that_stops_does_not_wait_for_the_store(
    root: Path, moving: Transfers
) -> None:
    fetching = asyncio.create_task(moving.fetch_files(MESSAGE, root.parent / "raw"))
    await asyncio.sleep(0)
    moving.break_off()
    with pytest.raises(BlobError, match="the worker is stopping"):
        await asyncio.wait_for(fetching, 20)


async def until_tried(times: int, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(20):
        while caplog.text.count("a transfer failed") < times:
            await asyncio.sleep(0.01)


def bring_back(root: Path) -> None:
    there = root.with_name("elsewhere")
    there.mkdir()
    ObjectStore(f"file://{there}").write(Visibility.RAW, "stored-x", io.BytesIO(CONTENT))
    there.rename(root)
