"""What the collector does for the gateway: uploads registered files, releases folds that waited."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial

from broker.blob_store import BlobStore
from schemas.errors import BlobError, BrokerUnreachable, DatabaseAway
from storage.database import Database
from storage.lookout import Seen
from storage.publisher import OutboxPublisher
from storage.uploads import next_upload, upload_files
from storage.waiting_folds import release_folds

logger = logging.getLogger(__name__)

UPLOAD_AGAIN_SECONDS = 2.0


class AcceptedWork:
    """Loops of a collector; each runs until cancelled, or raises Stopping.

    They look when they begin, and when they are told that there is something (`storage.lookout`).
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        publisher: OutboxPublisher,
        is_ours: Callable[[], bool],
    ) -> None:
        """is_ours: whether this collector is the one at work."""
        self._is_ours = is_ours
        self._database = database
        self._blobs = blobs
        self._publisher = publisher
        self._uploads = asyncio.Event()
        self._waiting_folds = asyncio.Event()

    def look(self, seen: Seen) -> None:
        """Do what there is to do."""
        if seen.uploads:
            self._uploads.set()
        if seen.waiting_folds:
            self._waiting_folds.set()

    async def upload(self) -> None:
        """Upload the files of data sets that are to be split; then their messages may go."""
        engine = self._database.engine
        while True:
            self._uploads.clear()
            upload = await self._database.insist(next_upload, engine, ours=self._is_ours())
            if upload is None:
                await self._uploads.wait()
                continue
            broken_off = threading.Event()
            try:
                # In a thread of its own: it takes as long as files are large, or the store away.
                await asyncio.to_thread(
                    upload_files, engine, self._blobs, upload, partial(_go_on, broken_off)
                )
            except (BlobError, BrokerUnreachable, DatabaseAway) as error:
                logger.warning(str(error), extra={"action": "raw_data_not_uploaded"})
                await self._database.pause(UPLOAD_AGAIN_SECONDS)
            finally:
                broken_off.set()
            self._publisher.look()

    async def release_folds(self) -> None:
        """Publish the folds that have waited for a split which has ended."""
        while True:
            self._waiting_folds.clear()
            if await self._database.insist(release_folds, self._database.engine):
                self._publisher.look()
            else:
                await self._waiting_folds.wait()


def _go_on(broken_off: threading.Event, _bytes: int) -> None:
    if broken_off.is_set():
        raise BlobError("the collector is stopping")
