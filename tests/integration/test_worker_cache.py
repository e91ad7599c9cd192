"""The data-set cache on a real disk: shared downloads, pins, eviction, restarts, tampering."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from consumer.cache import DatasetCache, PartsAway, PartsUnavailable
from schemas.datasets import HoldOut, Manifest, Part
from schemas.errors import BlobError, StoreUnreachable
from schemas.states import Visibility

SIZE = 1000


def content(name: str) -> bytes:
    return (name * SIZE).encode()[:SIZE]


def dataset(name: str) -> Manifest:
    def part(part_name: str, visibility: Visibility) -> Part:
        sha256 = hashlib.sha256(content(name)).hexdigest()
        return Part(
            name=part_name, format="npy", visibility=visibility, size=SIZE, sha256=sha256, blob=name
        )

    return Manifest(
        name=name,
        target_column="y",
        workflow_elements="classifier",
        split=HoldOut(0.5),
        n_train=10,
        n_test=10,
        parts=(part("X_train", Visibility.PUBLIC), part("y_test", Visibility.SECRET)),
    )


class Blobs:
    """A source of parts that counts, and can be told to fail."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.fault: Exception | None = None

    def fetch(self, part: Part, target: BinaryIO, go_on: Callable[[int], None]) -> None:
        go_on(0)
        self.fetched.append(part.blob)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        target.write(content(part.blob))


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(test)


def test_folds_that_start_together_share_one_download_of_the_public_parts(tmp_path, blobs):
    async def test() -> None:
        cache = DatasetCache(tmp_path, 10 * SIZE, blobs.fetch)

        async def use() -> list[str]:
            async with cache.using(dataset("iris")) as folder:
                return sorted(path.name for path in folder.iterdir())

        # When eight folds want the same data set at the same time
        seen = await asyncio.gather(*(use() for _ in range(8)))

        # Then it is fetched once, without the test labels
        assert seen == [["X_train.npy"]] * 8
        assert blobs.fetched == ["iris"]
        await cache.close()

    run(test())


def test_a_cancelled_fold_does_not_take_the_download_away_from_another_one(tmp_path, blobs):
    async def test() -> None:
        cache = DatasetCache(tmp_path, 10 * SIZE, blobs.fetch)

        async def use() -> bytes:
            async with cache.using(dataset("iris")) as folder:
                return (folder / "X_train.npy").read_bytes()

        first, second = asyncio.create_task(use()), asyncio.create_task(use())
        await asyncio.sleep(0)
        first.cancel()

        assert await second == content("iris")
        await cache.close()

    run(test())


def test_least_recently_used_goes_first_and_what_a_fold_uses_never(tmp_path, blobs):
    async def test() -> None:
        # Given room for two data sets, one in use by a fold, the other one not
        cache = DatasetCache(tmp_path, 2 * SIZE, blobs.fetch)
        a, b, c = dataset("a"), dataset("b"), dataset("c")
        async with cache.using(a) as in_use:
            async with cache.using(b):
                pass
            os.utime(tmp_path / a.reference, (0, 0))

            # When a third one comes
            async with cache.using(c):
                # Then the one in use stays, although it was used longest ago
                assert (in_use / "X_train.npy").read_bytes() == content("a")
                assert not (tmp_path / b.reference).exists()

                # And a fourth one has no room, which is said, and not waited for
                with pytest.raises(PartsUnavailable, match="beside the data sets that folds are"):
                    async with cache.using(dataset("d")):
                        pass
        await cache.close()

    run(test())


def test_another_worker_on_the_same_folder_does_not_delete_what_is_in_use_here(tmp_path, blobs):
    async def test() -> None:
        here = DatasetCache(tmp_path, SIZE, blobs.fetch)
        there = DatasetCache(tmp_path, SIZE, blobs.fetch)
        async with here.using(dataset("a")) as in_use:
            with pytest.raises(PartsUnavailable):
                async with there.using(dataset("b")):
                    pass
            assert (in_use / "X_train.npy").exists()

            # Both may use the same version, which is fetched once
            async with there.using(dataset("a")) as shared:
                assert shared == in_use
        assert blobs.fetched == ["a"]
        await here.close()
        await there.close()

    run(test())


def test_the_cache_survives_a_restart_and_notices_an_altered_file(tmp_path, blobs):
    async def use() -> bytes:
        cache = DatasetCache(tmp_path, 10 * SIZE, blobs.fetch)
        async with cache.using(dataset("iris")) as folder:
            return (folder / "X_train.npy").read_bytes()

    # Given a cache that a former worker has filled
    asyncio.run(use())
    assert asyncio.run(use()) == content("iris")
    assert blobs.fetched == ["iris"]

    # When somebody alters a file
    path = tmp_path / dataset("iris").reference / "X_train.npy"
    path.chmod(0o644)
    path.write_bytes(b"x" * SIZE)

    # Then the next worker fetches it again
    assert asyncio.run(use()) == content("iris")
    assert blobs.fetched == ["iris", "iris"]


def test_a_half_written_version_of_a_killed_worker_is_removed(tmp_path, blobs):
    leftover = tmp_path / "iris@0123456789abcdef.partial"
    leftover.mkdir(parents=True)
    (leftover / "X_train.npy").write_bytes(b"half")

    DatasetCache(tmp_path, SIZE, blobs.fetch)

    assert not leftover.exists()


def test_a_data_set_larger_than_the_cache_is_refused_by_name(tmp_path, blobs):
    async def test() -> None:
        cache = DatasetCache(tmp_path, SIZE - 1, blobs.fetch)
        with pytest.raises(PartsUnavailable, match=r"iris@.*DATARUN_CACHE_BYTES"):
            async with cache.using(dataset("iris")):
                pass

    run(test())


def test_a_full_disk_is_freed_of_what_nobody_uses(tmp_path, blobs):
    async def test() -> None:
        cache = DatasetCache(tmp_path, 10 * SIZE, blobs.fetch)
        async with cache.using(dataset("old")):
            pass

        # When the disk is full at the first try
        blobs.fault = OSError(errno.ENOSPC, "No space left on device")
        async with cache.using(dataset("new")) as folder:
            # Then old data sets make room
            assert (folder / "X_train.npy").read_bytes() == content("new")
            assert not (tmp_path / dataset("old").reference).exists()

    run(test())


def test_a_part_that_cannot_be_had_is_asked_for_again_but_not_at_once(tmp_path, blobs, monkeypatch):
    async def test() -> None:
        cache = DatasetCache(tmp_path, 10 * SIZE, blobs.fetch, failed_pause_seconds=600)

        async def use() -> bytes:
            async with cache.using(dataset("iris")) as folder:
                return (folder / "X_train.npy").read_bytes()

        # When fetching fails, the folds that come soon afterwards get the same answer
        blobs.fault = BlobError("it is altered")
        for _ in range(3):
            with pytest.raises(PartsUnavailable, match="it is altered"):
                await use()
        assert blobs.fetched == ["iris"]

        # Then, ten minutes later, it is tried again
        later = time.monotonic() + 600
        monkeypatch.setattr("consumer.cache.time", SimpleNamespace(monotonic=lambda: later))
        assert await use() == content("iris")

    run(test())


def test_a_store_that_is_away_is_told_from_a_part_that_is_harmed(tmp_path, blobs):
    async def test() -> None:
        cache = DatasetCache(tmp_path, 10 * SIZE, blobs.fetch)

        # When the store does not answer, nor the folds that come soon afterwards ask it again
        blobs.fault = StoreUnreachable("it does not answer")
        for _ in range(2):
            with pytest.raises(PartsAway, match="it does not answer"):
                async with cache.using(dataset("iris")):
                    pass
        assert blobs.fetched == ["iris"]

        # Then another data set's parts that are harmed are no reason to wait for ever
        blobs.fault = BlobError("it is altered")
        with pytest.raises(PartsUnavailable) as caught:
            async with cache.using(dataset("other")):
                pass
        assert not isinstance(caught.value, PartsAway)

    run(test())
