"""Parts of data sets on disk, by version: immutable, verified, bounded, least recently used first.

`<cache>/<name>@<version>/` holds the parts and appears by one rename, complete. A `.lock` file
beside it is held shared by whoever uses the version and exclusively by whoever writes or deletes
it, so that several workers can share the folder.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from consumer import metrics
from consumer.folder_lock import FolderLock
from consumer.jobs import part_filename
from schemas.datasets import Manifest, Part
from schemas.errors import BrokerError, StoreUnreachable
from schemas.states import Visibility

logger = logging.getLogger(__name__)

Fetch = Callable[[Part, BinaryIO, Callable[[int], None]], None]
"""Writes a part's content into the file, verified, blocking, or raises BrokerError.

It calls the last argument now and then, which raises when the worker stops.
"""

LOCKED_PAUSE_SECONDS = 0.1
FAILED_PAUSE_SECONDS = 10.0
"""A version that could not be had is not asked for again so soon, whatever folds want it."""

AWAY_PAUSE_SECONDS = 5.0
"""The same, when the object store did not answer: whoever asks it again holds a slot meanwhile."""

_PARTIAL = ".partial"


class PartsUnavailable(Exception):
    """The parts cannot be had here and now; the sentence says why."""


class PartsAway(PartsUnavailable):
    """The object store that holds the parts does not answer: they can be had once it does."""


class DatasetCache:
    """The data sets that this worker has fetched; `using` fetches what is missing."""

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        fetch: Fetch,
        failed_pause_seconds: float = FAILED_PAUSE_SECONDS,
    ) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._fetch = fetch
        self._verified: set[str] = set()
        self._locks: dict[str, FolderLock] = {}
        self._users: dict[str, int] = {}
        self._failed: dict[str, tuple[float, PartsUnavailable]] = {}
        self._failed_pause = failed_pause_seconds
        self._making: dict[str, asyncio.Task[FolderLock]] = {}
        self._closing = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        # Folds run as another user, who must be able to walk in.
        folder.chmod(0o755)
        self._delete_leftovers()
        metrics.CACHE_BYTES.set(self._size())

    @asynccontextmanager
    async def using(self, manifest: Manifest) -> AsyncIterator[Path]:
        """The folder with the public parts of `manifest`, which stays while the block runs.

        Several folds that want the same version share one download.
        Raises PartsUnavailable when the parts cannot be fetched or do not fit, PartsAway when
        whoever holds them is away.
        """
        name = manifest.reference
        self._users[name] = self._users.get(name, 0) + 1
        try:
            if name in self._locks or self._lock_again(name):
                metrics.CACHE_HITS.inc()
            else:
                await self._make_once(manifest)
            yield self._folder / name
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                self._unlock(name)

    async def close(self) -> None:
        """Break off what is being fetched."""
        self._closing.set()
        await asyncio.gather(*self._making.values(), return_exceptions=True)

    def _lock_again(self, name: str) -> bool:
        """Pin a version that this process has verified, if it is still there."""
        if name not in self._verified:
            return False
        lock = self._lock(name)
        if not lock.acquire(exclusive=False):
            return False
        if not (self._folder / name).is_dir():
            lock.release()
            self._verified.discard(name)
            return False
        self._locks[name] = lock
        return True

    async def _make_once(self, manifest: Manifest) -> None:
        name = manifest.reference
        until, failed = self._failed.get(name, (0.0, None))
        if failed is not None and time.monotonic() < until:
            raise type(failed)(str(failed))
        making = self._making.get(name)
        if making is None:
            making = asyncio.create_task(asyncio.to_thread(self._make, manifest))
            self._making[name] = making
            making.add_done_callback(lambda task: self._made(name, task))
        # One fold that is cancelled does not take the download away from the others.
        await asyncio.shield(making)

    def _made(self, name: str, task: asyncio.Task[FolderLock]) -> None:
        del self._making[name]
        if task.cancelled():
            return
        if (fault := task.exception()) is not None:
            away = isinstance(fault, PartsAway)
            pause = AWAY_PAUSE_SECONDS if away else self._failed_pause
            reason = (PartsAway if away else PartsUnavailable)(str(fault))
            self._failed[name] = (time.monotonic() + pause, reason)
            return
        self._failed.pop(name, None)
        self._verified.add(name)
        self._locks[name] = task.result()
        if name not in self._users:
            self._unlock(name)

    def _unlock(self, name: str) -> None:
        lock = self._locks.pop(name, None)
        if lock is not None:
            os.utime(self._folder / name)
            lock.release()

    def _lock(self, name: str) -> FolderLock:
        return FolderLock(self._folder / f"{name}.lock")

    # From here on: in a thread, blocking.

    def _make(self, manifest: Manifest) -> FolderLock:
        """Fetch or verify a version; return its shared lock."""
        name = manifest.reference
        parts = [part for part in manifest.parts if part.visibility is Visibility.PUBLIC]
        while not self._closing.is_set():
            lock = self._lock(name)
            if not lock.acquire(exclusive=True):
                # Being written by another worker, or in use there and so complete.
                if self._is_complete(name) and lock.acquire(exclusive=False):
                    if self._is_intact(name, parts):
                        metrics.CACHE_HITS.inc()
                        return lock
                    lock.release()
                self._closing.wait(LOCKED_PAUSE_SECONDS)
                continue
            try:
                if self._is_intact(name, parts):
                    metrics.CACHE_HITS.inc()
                else:
                    metrics.CACHE_MISSES.inc()
                    self._fetch_all(name, parts)
            finally:
                lock.release()
            # flock cannot go from exclusive to shared in one step: somebody may evict in between.
            if lock.acquire(exclusive=False):
                if self._is_complete(name):
                    return lock
                lock.release()
        raise PartsUnavailable(f"{name}: the worker is stopping")

    def _is_complete(self, name: str) -> bool:
        return (self._folder / name).is_dir()

    def _is_intact(self, name: str, parts: list[Part]) -> bool:
        """Whether every part is there with its SHA-256; looked at once per process."""
        folder = self._folder / name
        try:
            for part in parts:
                with (folder / part_filename(part.name, part.format)).open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != part.sha256:
                        return False
        except FileNotFoundError:
            return False
        return True

    def _fetch_all(self, name: str, parts: list[Part]) -> None:
        needed = sum(part.size for part in parts)
        if needed > self._limit:
            raise PartsUnavailable(
                f"{name} has {needed} bytes, and the worker's cache takes {self._limit}: "
                "raise DATARUN_CACHE_BYTES"
            )
        if not self._evict(self._limit - needed):
            raise PartsUnavailable(
                f"{name} does not fit beside the data sets that folds are using: the worker's "
                f"cache takes {self._limit} bytes. Raise DATARUN_CACHE_BYTES"
            )
        try:
            self._fetch_into(name, parts)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise PartsUnavailable(f"{name} cannot be cached: {error}") from error
            self._evict(0)
            try:
                self._fetch_into(name, parts)
            except OSError as again:
                raise PartsUnavailable(
                    f"{name} has {needed} bytes, and the disk of the worker's cache "
                    f"{self._folder} is full: {again}"
                ) from again

    def _fetch_into(self, name: str, parts: list[Part]) -> None:
        partial = self._folder / f"{name}{_PARTIAL}"
        target = self._folder / name
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            for part in parts:
                with (partial / part_filename(part.name, part.format)).open("wb") as file:
                    self._fetch(part, file, self._go_on)
                    os.fchmod(file.fileno(), 0o444)
            partial.chmod(0o755)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        except StoreUnreachable as error:
            raise PartsAway(f"{name} cannot be fetched: {error}") from error
        except BrokerError as error:
            raise PartsUnavailable(f"{name} cannot be fetched: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            metrics.CACHE_BYTES.set(self._size())
        logger.info("data set fetched", extra={"action": "dataset_fetched", "dataset": name})

    def _go_on(self, _read: int) -> None:
        if self._closing.is_set():
            raise PartsUnavailable("the worker is stopping")

    def _evict(self, limit: int) -> bool:
        """Delete the versions used longest ago, until at most `limit` bytes are left; if it can."""
        kept = sorted(self._versions(), key=_last_used)
        total = sum(map(_size, kept))
        for folder in kept:
            if total <= limit:
                break
            lock = self._lock(folder.name)
            if lock.acquire(exclusive=True):
                total -= _size(folder)
                shutil.rmtree(folder, ignore_errors=True)
                lock.release(remove=True)
                metrics.CACHE_EVICTIONS.inc()
                metrics.CACHE_BYTES.set(self._size())
                logger.info(
                    "data set evicted",
                    extra={"action": "dataset_evicted", "dataset": folder.name},
                )
        return total <= limit

    def _size(self) -> int:
        return sum(map(_size, self._versions()))

    def _versions(self) -> list[Path]:
        return [
            path
            for path in self._folder.iterdir()
            if path.is_dir() and not path.name.endswith(_PARTIAL)
        ]

    def _delete_leftovers(self) -> None:
        """What a worker that was killed had not finished."""
        for partial in self._folder.glob(f"*{_PARTIAL}"):
            lock = self._lock(partial.name.removesuffix(_PARTIAL))
            if lock.acquire(exclusive=True):
                shutil.rmtree(partial, ignore_errors=True)
                lock.release()


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except FileNotFoundError:
        return 0
