"""Splits a data set in a process of its own, which is held to limits and leaves nothing running."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer.execution.captured import CapturedStream
from consumer.execution.fold_verdicts import death_sentence, infrastructure, of_limit
from consumer.execution.frame_stream import FrameStream
from consumer.execution.frames import HEADER, FrameError, FrameKind
from consumer.execution.slot_link import SlotLink, SlotLost, SlotReport
from consumer.jobs import PreparedData, PreparedPart, PrepareFailed, part_filename
from consumer.parts import map_npy
from consumer.preparation.split_task import CLASSES_FILE, SplitReport, SplitTask
from consumer.sandbox.box import BOX, View
from consumer.sandbox.cgroups import SlotGroup
from consumer.sandbox.clean_process import give_away, start_clean
from consumer.sandbox.seal import ZYGOTE_THREADS
from schemas.datasets import HoldOut, workflow_elements
from schemas.messages import DataMessage
from schemas.states import Culprit, FailureKind, Isolation, Phase
from schemas.verdicts import Output, Verdict, clip

_REPORT_LIMIT = 1 << 20
_PROCESSES = 4096
_NO_LIMIT = 1e12
_DYING_SECONDS = 1.0
_RAW, _OUT = "/data/raw", "/data/out"
"""Where the two folders are in the sandbox."""


async def prepare_dataset(
    message: DataMessage,
    raw: Path,
    out: Path,
    *,
    isolation: Isolation,
    wall_seconds: float,
    memory_bytes: int,
) -> PreparedData:
    """Split the data set that `message` describes into parts.

    raw: folder of the uploaded files, which an organiser's `prepare_data` may write to.
    out: empty folder for the parts; what else the organiser's code leaves is in its parent. Raises
    PrepareFailed. When it is cancelled, everything that was started is dead before the
    CancelledError leaves.
    """
    folder = Path(tempfile.mkdtemp(prefix="prepare-", dir=out.parent.resolve()))
    with ExitStack() as held:
        raw, out = raw.resolve(), out.resolve()
        task = _task(message, raw, out, folder / "home", memory_bytes)
        views: tuple[View, ...] = ()
        if isolation is Isolation.STRICT:
            await asyncio.to_thread(give_away, raw, out)
            task = replace(task, raw=_RAW, out=_OUT, folder=str(BOX / "fold"))
            views = View(str(raw), _RAW, writable=True), View(str(out), _OUT, writable=True)
        link = held.enter_context(_supervisor(folder, isolation, views))
        stdout, stderr = (held.enter_context(CapturedStream()) for _ in range(2))
        ours, theirs = (held.enter_context(end) for end in socket.socketpair())
        ours.setblocking(False)
        limits = {
            "wall": wall_seconds,
            "cpu": _NO_LIMIT,
            "memory": memory_bytes // 1024,
            "processes": _PROCESSES,
        }
        try:
            await asyncio.wait_for(link.begun(), wall_seconds)
        except (SlotLost, TimeoutError) as error:
            verdict = infrastructure("crashed: the process that splits the data did not start")
            raise PrepareFailed(verdict, Output()) from error
        link.run(limits, (theirs.fileno(), stdout.writer, stderr.writer), None)
        theirs.close()
        stdout.close_writer()
        stderr.close_writer()
        answer, report = await _conversation(link, ours, task)
        output = Output(stdout=stdout.finish(), stderr=stderr.finish())
    if isinstance(answer, Verdict):
        raise PrepareFailed(answer, output)
    if answer is None:
        raise PrepareFailed(_ended(report, wall_seconds, memory_bytes), output)
    return await asyncio.to_thread(_prepared, answer, out, output)


def _task(message: DataMessage, raw: Path, out: Path, folder: Path, memory_bytes: int) -> SplitTask:
    split = message.split
    return SplitTask(
        raw=str(raw),
        out=str(out),
        folder=str(folder),
        threads=os.cpu_count() or 1,
        memory_bytes=memory_bytes,
        processes=_PROCESSES,
        files=(*message.files, *message.uploads),
        elements=workflow_elements(message.workflow_elements),
        scoring=message.scoring,
        target_column=message.target_column,
        held_out_test=split.held_out_test if isinstance(split, HoldOut) else 0.0,
        random_state=split.random_state if isinstance(split, HoldOut) else 0,
        custom_file=None if isinstance(split, HoldOut) else split.file,
    )


@contextmanager
def _supervisor(folder: Path, isolation: Isolation, views: tuple[View, ...]) -> Iterator[SlotLink]:
    """A process that runs, watches and clears up one process, as a slot does for folds."""
    process, control = start_clean(
        "consumer.preparation.prepare_process",
        folder,
        threads=ZYGOTE_THREADS,
        isolation=isolation,
        views=views,
    )
    link = SlotLink(control, os.pidfd_open(process.pid), SlotGroup.make())
    try:
        yield link
    finally:
        link.close()
        process.kill()
        process.wait()
        link.group.remove()


async def _conversation(
    link: SlotLink, connection: socket.socket, task: SplitTask
) -> tuple[SplitReport | Verdict | None, SlotReport | None]:
    """What the process answered, None if nothing; and how it ended, None if its slot died."""
    talk = asyncio.create_task(_talk(connection, task))
    ended = link.ended
    either: set[asyncio.Future[Any]] = {talk, ended}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if talk.done() and talk.result() is None:
            await asyncio.wait({ended}, timeout=_DYING_SECONDS)
        await link.stop()
        await asyncio.wait({talk}, timeout=_DYING_SECONDS)
    finally:
        talk.cancel()
        await link.stop()
    answer = talk.result() if talk.done() and not talk.cancelled() else None
    return answer, None if ended.exception() else ended.result()


async def _talk(connection: socket.socket, task: SplitTask) -> SplitReport | Verdict | None:
    body = pickle.dumps(task)
    frames = FrameStream(connection)
    try:
        await frames.send(HEADER.pack(FrameKind.JOB, len(body)) + body)
        kind, size = await frames.header()
        if size > _REPORT_LIMIT:
            raise FrameError(f"a report of {size} bytes")
        said = json.loads(await frames.payload(size))
        if kind is FrameKind.PREPARED:
            return SplitReport.from_json(said)
        return _reported(said)
    except (EOFError, ConnectionError):
        return None
    except (FrameError, ValueError, TypeError, KeyError, RecursionError) as error:
        return _verdict(f"the process that splits the data said what cannot be read: {error}")
    finally:
        frames.close()


def _reported(said: dict[str, Any]) -> Verdict:
    return Verdict(
        phase=Phase.DATA,
        kind=FailureKind(said["kind"]),
        culprit=Culprit(said["culprit"]),
        message=clip(str(said["message"]), 2000),
        traceback=clip(str(said["traceback"])),
    )


def _ended(report: SlotReport | None, wall_seconds: float, memory_bytes: int) -> Verdict:
    """The process ended without an answer."""
    if report is None:
        return _verdict("crashed: the process that watches the split was killed")
    if report.over is None:
        return _verdict(death_sentence(report.status, Phase.DATA))
    if report.over["limit"] == "wall":
        return _verdict(f"timeout: {wall_seconds:.1f} s wall in data", FailureKind.TIMEOUT)
    if report.over["limit"] == "processes":
        used = int(report.over["used"])
        return _verdict(f"crashed: {used} processes and threads, {_PROCESSES} allowed, in data")
    amounts = of_limit(float(report.over["used"]) * 1024, memory_bytes)
    return _verdict(f"memory: {amounts} in data", FailureKind.MEMORY)


def _verdict(message: str, kind: FailureKind = FailureKind.CRASHED) -> Verdict:
    return Verdict(phase=Phase.DATA, kind=kind, culprit=Culprit.ORGANISER, message=message)


def _prepared(report: SplitReport, out: Path, output: Output) -> PreparedData:
    """The parts as they lie in `out`. PrepareFailed when they are not what was reported."""
    parts = tuple(
        PreparedPart(
            part.name, part.format, part.visibility, out / part_filename(part.name, part.format)
        )
        for part in report.parts
    )
    files = {out / f"{name}.npy" for name in ("y_train", "y_test")}
    files |= {part.path for part in parts} | ({out / CLASSES_FILE} if report.has_classes else set())
    for path in files:
        # What the organiser's code has put there may be a link to a file of ours, or a pipe.
        if path.parent != out or path.is_symlink() or not path.is_file():
            raise PrepareFailed(_verdict(f"{path.name} was not written as a file"), output)
    if not {part.name for part in parts} >= {"X_train", "y_train", "X_test", "y_test"}:
        raise PrepareFailed(_verdict("not all parts were written"), output)
    classes: npt.NDArray[Any] | None = None
    try:
        rows = [len(map_npy(out / f"{name}.npy")) for name in ("y_train", "y_test")]
        if report.has_classes:
            classes = np.array(map_npy(out / CLASSES_FILE))
            (out / CLASSES_FILE).unlink()
    except (OSError, ValueError) as error:
        raise PrepareFailed(_verdict(f"labels cannot be read back: {error}"), output) from error
    if rows != [report.n_train, report.n_test]:
        raise PrepareFailed(_verdict("the labels are not as many as were reported"), output)
    return PreparedData(report.n_train, report.n_test, report.columns, classes, parts, output)
