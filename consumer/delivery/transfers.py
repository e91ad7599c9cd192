"""What the prepare worker moves: files that were uploaded, and the parts that it has made."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from broker.blob_store import BlobStore
from broker.link import Link
from consumer.delivery.reading import publish_surely
from consumer.jobs import PreparedPart
from schemas.datasets import Part
from schemas.errors import BlobError, BrokerError, StoreUnreachable
from schemas.messages import DataMessage, UploadedFile, UploadMessage
from schemas.states import Visibility
from schemas.topology import EVENTS, KEY_UPLOAD
from schemas.wire import pack

logger = logging.getLogger(__name__)

TRANSFER_TRIES = 3
RETRY_SECONDS = 2.0

T = TypeVar("T")


class HeldTooLong(Exception):
    """The object store has been away for so long that RabbitMQ would take the delivery away."""


class Transfers:
    """Moves what belongs to one data set at a time, with patience."""

    def __init__(self, link: Link, blobs: BlobStore) -> None:
        self._link = link
        self._blobs = blobs
        self._breaking_off = threading.Event()
        self._hold_until: float | None = None
        self._split_before: float | None = None
        self._waited = False

    @property
    def broken_off(self) -> bool:
        """Whether the worker gives back what it has."""
        return self._breaking_off.is_set()

    def break_off(self) -> None:
        """Whatever is under way shall end."""
        self._breaking_off.set()

    def hold(self, seconds: float | None, split_seconds: float) -> None:
        """Another data set begins, whose delivery can be held for so long; None: for ever.

        split_seconds: how much of that splitting it may take.
        """
        now = time.monotonic()
        self._hold_until = None if seconds is None else now + seconds
        self._split_before = None if seconds is None else now + seconds - split_seconds
        self._waited = False

    async def fetch_files(self, message: DataMessage, raw: Path) -> None:
        """Put the files of a data set into the folder `raw`.

        Raises BrokerError, and HeldTooLong.
        """
        for name, inline in message.files.items():
            content = await asyncio.to_thread(inline.to_bytes)
            await asyncio.to_thread((raw / name).write_bytes, content)
        for name, upload in message.uploads.items():

            def fetch(path: Path = raw / name, upload: UploadedFile = upload) -> None:
                with path.open("wb") as target:
                    self._blobs.read(
                        Visibility.RAW,
                        upload.blob,
                        target,
                        size=upload.size,
                        sha256=upload.sha256,
                        on_progress=self._go_on,
                    )

            await self._persist(lambda: asyncio.to_thread(fetch))
        # Split now, it might be taken away in the middle, which counts as an attempt; a new
        # delivery can be held for the whole time.
        is_late = self._split_before is not None and time.monotonic() > self._split_before
        if self._waited and is_late:
            raise HeldTooLong

    async def store(self, run_id: str, part: PreparedPart) -> Part:
        """Store a part of the data set of that message. Raises BrokerError, and HeldTooLong."""

        async def store() -> Part:
            blob = self._blobs.new()
            # Said before it is written, so that it is deleted should this worker die meanwhile.
            upload = UploadMessage(owner=run_id, blobs=((part.visibility, blob),))
            announcement = pack(upload, KEY_UPLOAD, app_id=self._link.name)
            await publish_surely(self._link, EVENTS, announcement)
            size, sha256 = await asyncio.to_thread(self._write, part, blob)
            return Part(
                name=part.name,
                format=part.format,
                visibility=part.visibility,
                size=size,
                sha256=sha256,
                blob=blob,
            )

        return await self._persist(store)

    def _write(self, part: PreparedPart, blob: str) -> tuple[int, str]:
        with part.path.open("rb") as source:
            return self._blobs.write(part.visibility, blob, source, on_progress=self._go_on)

    async def _persist(self, transfer: Callable[[], Awaitable[T]]) -> T:
        """Try a transfer a few times: what failed may be a broker that is being restarted.

        An object store that is away says nothing about the data set, which waits until it is back.
        """
        failed = 0
        while True:
            try:
                return await transfer()
            except StoreUnreachable as error:
                _log(error, failed)
                self._waited = True
                if self._hold_until is not None and time.monotonic() > self._hold_until:
                    raise HeldTooLong from error
            except BrokerError as error:
                failed += 1
                if failed == TRANSFER_TRIES:
                    raise
                _log(error, failed)
            await asyncio.sleep(RETRY_SECONDS * max(failed, 1))

    def _go_on(self, _bytes: int) -> None:
        if self._breaking_off.is_set():
            raise BlobError("the worker is stopping")


def _log(error: BrokerError, attempt: int) -> None:
    logger.warning(
        "a transfer failed: %s", error, extra={"action": "transfer_failed", "attempt": attempt}
    )
