"""One fold from its job to its outcome: talks with its process, keeps what it says, judges it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from consumer.execution import fold_verdicts as verdicts
from consumer.execution.captured import CapturedStream
from consumer.execution.checked_predictions import (
    BadPredictions,
    checked_predictions,
    largest_payload,
)
from consumer.execution.frame_stream import FrameStream
from consumer.execution.frames import BEGIN, GO, FrameError, FrameKind
from consumer.execution.job_frame import job_frame, job_size, x_paths
from consumer.execution.phase_clock import PhaseClock
from consumer.execution.slot_link import SlotLink, SlotReport
from consumer.jobs import FoldJob, FoldOutcome
from consumer.sandbox.box import BOX
from schemas.datasets import Custom
from schemas.events import Measurements
from schemas.states import FoldState, Phase
from schemas.verdicts import Output, Verdict

_T = TypeVar("_T")

OnPhase = Callable[[FoldState, Measurements], None]

_SMALL = 256 * 1024
"""Bytes up to which work on the event loop is quicker than a thread."""

_REPORT_LIMIT = 256 * 1024
_OVERDUE_SECONDS = 3.0
"""So long after its wall limit, a fold whose slot does not act is killed with its slot."""

_DYING_SECONDS = 1.0
_LAST_WORDS_SECONDS = 5.0


class FoldRun:
    """One fold in one slot."""

    def __init__(self, slot: SlotLink, job: FoldJob, on_phase: OnPhase) -> None:
        self._slot = slot
        self._job = job
        self._on_phase = on_phase
        self._phase = Phase.DATA
        self._clock = PhaseClock()
        self._predictions: dict[Phase, npt.NDArray[np.float64]] = {}
        self._verdict: Verdict | None = None
        self._sees_its_slot = True
        self._heard_at: float | None = None
        """When the present phase's frame came; None as long as it has not."""

    async def run(self, folder: Path | None, threads: int) -> FoldOutcome:
        """folder: the fold's own, not made yet; removed by the slot, as long as that lives. None at
        level `strict`, where it has its own file system.

        When it is cancelled, everything that the fold started is dead before it leaves. Raises
        OSError when the fold's process, or its slot, was killed before any code but ours ran.
        """
        job = self._job
        place = folder or BOX / "fold"
        self._sees_its_slot = folder is not None
        with contextlib.ExitStack() as held:
            try:
                frame = await _in_thread(job_size(job), job_frame, job, place, threads)
                x = [_opened(path, held) for path in x_paths(job)]
            except (OSError, KeyError, ValueError) as error:
                self._verdict = verdicts.infrastructure(f"a data-set part cannot be read: {error}")
                return self._outcome(None, Output())
            ours, theirs = (held.enter_context(end) for end in socket.socketpair())
            ours.setblocking(False)
            stdout, stderr = (held.enter_context(CapturedStream()) for _ in range(2))
            # The open files go with the first bytes, past the slot, which reads none of them.
            sent = socket.send_fds(ours, [frame], x)
            descriptors = (theirs.fileno(), stdout.writer, stderr.writer)
            self._slot.run(_slot_limits(job), descriptors, folder)
            theirs.close()
            stdout.close_writer()
            stderr.close_writer()
            report = await self._conversation(ours, memoryview(frame)[sent:])
            if self._was_killed_early(report):
                raise BrokenPipeError("killed before any code but ours ran")
            output = Output(stdout=stdout.finish(), stderr=stderr.finish())
        return self._outcome(report, output)

    async def _conversation(self, connection: socket.socket, rest: memoryview) -> SlotReport | None:
        """Until the fold is dead; None when its slot is too. rest: of its job."""
        frames = FrameStream(connection)
        talk = asyncio.create_task(self._talk(frames, rest))
        ended = self._slot.ended
        either: set[asyncio.Future[Any]] = {talk, ended}
        try:
            limit = self._job.limits.wall_seconds + _OVERDUE_SECONDS
            await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if talk.done() and not talk.result():
                # The fold is dying, or user code has closed its socket.
                await asyncio.wait({ended}, timeout=_DYING_SECONDS)
                if not ended.done():
                    self._verdict = verdicts.hung_up(self._job, self._phase)
            elif not talk.done() and not ended.done():  # its slot does not act
                over = {"limit": "wall", "used": limit}
                self._verdict = verdicts.over_limit(self._job, self._phase, over)
            await self._slot.stop()
            # What the fold said before it died counts.
            await asyncio.wait({talk}, timeout=_LAST_WORDS_SECONDS)
        finally:
            talk.cancel()
            frames.close()
            await self._slot.stop()
        return None if ended.exception() else ended.result()

    async def _talk(self, frames: FrameStream, rest: memoryview) -> bool:
        """Whether the fold has said all that it has to say; False when it closed before."""
        try:
            if rest:
                await frames.send(rest)
            begun = await self._hear(frames, FrameKind.BEGUN, BEGIN.size)
            moment, cpu = BEGIN.unpack(begun)
            self._clock.begin(cpu, moment)
            for phase, kind, rows, reached in self._phases():
                self._phase, self._heard_at = phase, None
                limit = largest_payload(self._job.manifest, rows) if rows else 0
                payload = await self._hear(frames, kind, limit)
                if rows:
                    self._predictions[phase] = await self._checked(payload, rows)
                if reached is FoldState.TESTED:  # its slot measures it before it kills it
                    break
                mark = await self._slot.mark()
                if mark is None:  # it is dead: its slot's last report counts
                    return False
                self._clock.end(phase, mark.cpu, mark.memory, self._heard_at)
                self._on_phase(reached, self._clock.measurements)
                self._clock.begin(mark.cpu)
                await frames.send(GO)
        except (EOFError, ConnectionError):
            return False
        except _Failed as failed:
            self._verdict = failed.verdict
        return True

    def _phases(self) -> tuple[tuple[Phase, FrameKind, int, FoldState], ...]:
        """Each phase, the frame that ends it, the rows predicted in it, the state reached."""
        manifest = self._job.manifest
        return (
            (Phase.TRAIN, FrameKind.TRAINED, 0, FoldState.TRAINED),
            (Phase.VALIDATION, FrameKind.VALIDATED, manifest.n_train, FoldState.VALIDATED),
            (Phase.TEST, FrameKind.TESTED, manifest.n_test, FoldState.TESTED),
        )

    async def _hear(self, frames: FrameStream, expected: FrameKind, limit: int) -> bytearray:
        """The payload of the next frame. _Failed when it is another."""
        try:
            kind, size = await frames.header()
        except FrameError as error:
            raise self._bad(f"the process said what no fold says: {error}") from error
        self._heard_at = time.monotonic()
        if kind is FrameKind.FAILED and size <= _REPORT_LIMIT:
            payload = await frames.payload(size)
            raise _Failed(verdicts.reported(self._job, self._phase, payload))
        if kind is not expected:
            raise self._bad(f"the process said {kind.name} in {self._phase}")
        if size > limit:
            raise self._bad(f"predictions take {size} bytes; at most {limit} are read")
        return await frames.payload(size)

    async def _checked(self, payload: bytearray, rows: int) -> npt.NDArray[np.float64]:
        try:
            return await _in_thread(
                len(payload), checked_predictions, payload, self._job.manifest, rows
            )
        except BadPredictions as error:
            raise self._bad(str(error)) from error

    def _bad(self, message: str) -> _Failed:
        return _Failed(verdicts.bad_output(self._job, self._phase, message))

    def _outcome(self, report: SlotReport | None, output: Output) -> FoldOutcome:
        if report is not None:
            self._clock.end(self._phase, report.cpu, report.memory, self._heard_at)
        verdict = self._judged(report)
        return FoldOutcome(
            state=FoldState.TESTED if verdict is None else FoldState.ERROR,
            verdict=verdict,
            full_train_predictions=self._predictions.get(Phase.VALIDATION),
            test_predictions=self._predictions.get(Phase.TEST),
            measurements=self._clock.measurements,
            output=output,
        )

    def _was_killed_early(self, report: SlotReport | None) -> bool:
        """Whether the fold, or its slot, was killed before there was anybody to blame for it."""
        if self._phase is not Phase.DATA:
            return False
        if report is None:
            return True
        if self._verdict is not None or report.over is not None or report.status != signal.SIGKILL:
            return False
        # An organiser's code may kill its process as soon as that has its job.
        return not report.begun or not isinstance(self._job.manifest.split, Custom)

    def _judged(self, report: SlotReport | None) -> Verdict | None:
        if Phase.TEST in self._predictions:
            return None
        if report is not None and report.over is not None:
            # Also where the fold has said that a process of its own was killed.
            return verdicts.over_limit(self._job, self._phase, report.over)
        if self._verdict is not None:
            return self._verdict
        if report is None:
            return verdicts.slot_lost(self._job, self._phase, in_reach=self._sees_its_slot)
        return verdicts.died(self._job, self._phase, report.status)


class _Failed(Exception):
    """The fold goes no further."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


def _opened(path: Path, held: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    held.callback(os.close, descriptor)
    return descriptor


def _slot_limits(job: FoldJob) -> dict[str, float]:
    limits = job.limits
    return {
        "wall": limits.wall_seconds,
        "cpu": limits.cpu_seconds,
        "memory": limits.memory_bytes // 1024,
        "processes": limits.processes,
    }


async def _in_thread(size: int, function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function that works on `size` bytes, in a thread unless it is done sooner here."""
    if size <= _SMALL:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
