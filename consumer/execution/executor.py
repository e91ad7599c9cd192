"""Runs folds: one zygote, a slot each for as many as run at one time."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace
from pathlib import Path

from consumer.execution import fold_verdicts as verdicts
from consumer.execution.fold_run import FoldRun, OnPhase
from consumer.execution.slot_link import SlotLink
from consumer.execution.zygote_link import ZygoteError, ZygoteLink
from consumer.jobs import FoldJob, FoldOutcome, ResolvedLimits
from consumer.scratch import remove_tree
from schemas.events import Measurements
from schemas.states import FoldState, Isolation
from schemas.verdicts import Output, Verdict

logger = logging.getLogger(__name__)

_NO_LIMITS = ResolvedLimits(
    wall_seconds=0, cpu_seconds=1e9, memory_bytes=1 << 50, processes=1 << 22
)
"""But for the time: a fold that never ends would hold its slot for ever."""

_STARTS = 3
"""When processes were killed while they were idle, one fold is begun so many times."""


class FoldExecutor:
    """Slots, the zygote, one forked process per fold."""

    def __init__(
        self, *, slots: int, isolation: Isolation, threads_per_slot: int, scratch: Path
    ) -> None:
        """scratch: a folder of this worker's own, for the folds' files below level `strict`."""
        self._isolation = isolation
        self._scratch = scratch.resolve()
        self._threads = threads_per_slot
        self._zygote: ZygoteLink | None = None
        self._slots: list[SlotLink | None] = [None] * slots
        self._folders: list[Path | None] = [None] * slots
        """Where each slot's last fold had its files."""
        self._starting = asyncio.Lock()
        self._removals: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """The zygote is warm, and every slot's process is there, when this returns.

        Raises ZygoteError.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        for number in range(len(self._slots)):
            await self._slot(number)

    async def close(self) -> None:
        """Kill what runs, and remove its files."""
        if self._zygote is not None:
            await self._zygote.close()
        for link in self._slots:
            if link is not None:  # of a zygote that died before
                link.close()
        if self._removals:
            await asyncio.wait(self._removals)

    async def run(self, slot: int, job: FoldJob, on_phase: OnPhase) -> FoldOutcome:
        """Train and test one fold in slot number `slot`, which runs no other at that time.

        on_phase: called on the event loop with TRAINED and VALIDATED when they are reached.
        Whatever goes wrong is in the outcome's verdict. When the task is cancelled, everything
        that the fold started is dead before the CancelledError leaves.
        """
        if self._isolation is Isolation.NONE:
            job = replace(job, limits=replace(_NO_LIMITS, wall_seconds=job.limits.wall_seconds))
        refused = verdicts.refused(job)
        if refused is not None:
            return _ended(refused)
        reason = (
            f"crashed: the fold was killed {_STARTS} times before any of its code ran; "
            "the machine may be out of memory"
        )
        for _ in range(_STARTS):
            folder = self._fold_folder()
            link = None
            try:
                link = await self._slot(slot)
                return await FoldRun(link, job, on_phase).run(folder, self._threads)
            except ZygoteError as error:  # killed while it warmed up, perhaps
                reason = str(error)
            except OSError:  # the fold's process is dead, or its slot's: begin again
                continue
            finally:
                if folder is not None:
                    if link is None or link.lost:  # a slot removes what its fold leaves
                        self._remove(folder)
                    else:
                        self._folders[slot] = folder
        return _ended(verdicts.infrastructure(reason))

    def _fold_folder(self) -> Path | None:
        """None at level `strict`: a fold's files are in its own memory, and go with it."""
        if self._isolation is Isolation.STRICT:
            return None
        # No fold can guess where the next one will be, and put something there.
        return self._scratch / f"fold-{secrets.token_hex(16)}"

    async def _slot(self, number: int) -> SlotLink:
        async with self._starting:
            if self._zygote is not None and self._zygote.lost:
                lost, self._zygote = self._zygote, None
                await lost.close()
            if self._zygote is None:
                self._zygote = await ZygoteLink.start(self._scratch, self._isolation)
            link = self._slots[number]
            if link is None or link.lost:
                link = await self._zygote.new_slot(number, self._remove)
                self._slots[number] = link
                if (folder := self._folders[number]) is not None:
                    # The former slot may have died before it had removed everything.
                    self._remove(folder)
            return link

    def _remove(self, folder: Path) -> None:
        """In a thread, while the next fold begins."""
        loop = asyncio.get_running_loop()
        removal = loop.run_in_executor(None, _remove, folder)
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)


def _remove(folder: Path) -> None:
    try:
        remove_tree(folder)
    except OSError as error:  # it goes with the worker's own folder, or stays
        logger.warning("a fold's files stay: %s", error, extra={"action": "files_stay"})


def _ended(verdict: Verdict) -> FoldOutcome:
    return FoldOutcome(FoldState.ERROR, verdict, None, None, Measurements(), Output())
