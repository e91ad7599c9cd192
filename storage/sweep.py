"""Deleting the parts of data sets that nothing needs any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from broker.blob_store import BlobStore
from schemas.blobs import is_stored
from schemas.errors import BlobError, StoreUnreachable
from schemas.states import Visibility
from storage import upkeep
from storage.database import Database
from storage.engine import snapshot, transaction

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""How often blobs are looked for that nothing needs."""


class Sweep:
    """A loop of a collector; what cannot be deleted now is tried again at the next look."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._now = asyncio.Event()

    def look(self) -> None:
        """There may be something new."""
        self._now.set()

    async def run(self) -> None:
        """Delete until cancelled; raises Stopping."""
        while True:
            self._now.clear()
            await self._delete(await self._database.insist(self._doomed))
            try:
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._now.wait()
            except TimeoutError:
                continue

    async def _delete(self, doomed: Sequence[tuple[Visibility, str]]) -> None:
        store_is_away = False
        for visibility, blob in doomed:
            if store_is_away and is_stored(blob):
                continue
            try:
                await asyncio.to_thread(self._blobs.delete, visibility, blob)
            except BlobError as error:
                store_is_away |= isinstance(error, StoreUnreachable)
                logger.warning(str(error), extra={"action": "blob_not_deleted", "blob": blob})
                continue
            await self._database.insist(self._forget, blob)

    def _forget(self, blob: str) -> None:
        with transaction(self._database.engine) as connection:
            upkeep.forget_blob(connection, blob)

    def _doomed(self) -> list[tuple[Visibility, str]]:
        with snapshot(self._database.engine) as connection:
            return upkeep.blobs_to_delete(connection, datetime.now(UTC))
