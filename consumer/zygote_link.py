"""The worker's ends of the zygote and its slots: orders go out, reports come back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer import packets
from consumer.seal import KEPT_VARIABLES, THREAD_VARIABLES, ZYGOTE_THREADS
from schemas.errors import DatarunError

START_SECONDS = 60.0
_ANSWER_SECONDS = 3.0
"""After so long without an answer, a slot is killed: user code may have stopped it."""


class ZygoteError(DatarunError):
    """The zygote, or a slot, could not be started."""


@dataclass(frozen=True)
class SlotReport:
    """A fold has ended, and nothing that it started is alive."""

    status: int
    """Wait status of the fold's own process."""

    over: dict[str, Any] | None
    """The limit that was exceeded."""

    cpu: float
    memory: int
    processes: int


@dataclass(frozen=True)
class Mark:
    """What a fold has used so far: CPU seconds, peak kB, processes now."""

    cpu: float
    memory: int
    processes: int


class SlotLost(Exception):
    """The slot's process is dead, and whatever its fold had started."""


class SlotLink:
    """One slot's process; runs one fold at a time."""

    def __init__(self, control: socket.socket, pid: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._control = control
        self._pidfd = os.pidfd_open(pid)
        self._ended: asyncio.Future[SlotReport] | None = None
        self._mark: asyncio.Future[Mark | None] | None = None
        self._impatience: asyncio.TimerHandle | None = None
        self._killing = False
        self._closed = False
        self.lost = False
        self._loop.add_reader(control, self._readable)

    def run(
        self, limits: dict[str, float], descriptors: tuple[int, int, int], folder: Path | None
    ) -> None:
        """Start a fold; `ended` tells when it has ended. OSError when the slot is dead.

        descriptors: its socket, stdout and stderr. folder: what the slot removes afterwards.
        """
        order = {"do": "run", "limits": limits, "folder": str(folder) if folder else None}
        self._ended = self._loop.create_future()
        self._killing = False
        try:
            packets.send(self._control, order, descriptors)
        except OSError:
            self.lost = True
            raise

    @property
    def ended(self) -> asyncio.Future[SlotReport]:
        """Set once the fold is dead, with all that it started; SlotLost when the slot is too."""
        if self._ended is None:
            raise RuntimeError("no fold was started")
        return self._ended

    async def mark(self) -> Mark | None:
        """Measure the running fold; None when it has ended."""
        if self.ended.done():
            return None
        self._mark = self._loop.create_future()
        self._order("mark")
        return await self._mark

    async def stop(self) -> None:
        """Kill the fold; returns when all that it started is dead, also when it is cancelled."""
        cancelled: asyncio.CancelledError | None = None
        while not self.ended.done():
            if not self._killing:
                self._killing = True
                self._order("kill")
            try:
                await asyncio.wait({self.ended})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def close(self) -> None:
        """The slot kills what it runs and leaves."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._control)
            self._control.close()
            self._lose()
            os.close(self._pidfd)

    def buried(self) -> None:
        """The zygote says that the slot is dead and everything below it too."""
        self._lose()

    def _order(self, what: str) -> None:
        try:
            packets.send(self._control, {"do": what})
        except OSError:  # it is dead: the zygote will say when all is cleared
            return
        if self._impatience is None:
            self._impatience = self._loop.call_later(_ANSWER_SECONDS, self._kill_slot)

    def _kill_slot(self) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _readable(self) -> None:
        try:
            packet, _ = packets.receive(self._control)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            # Its descendants may still be alive: `ended` waits for the zygote's word.
            self.lost = True
            self._loop.remove_reader(self._control)
            self._calm()
            self._impatience = self._loop.call_later(_ANSWER_SECONDS, self._lose)
            return
        if "mark" in packet:
            if not self._killing:
                self._calm()
            self._answer_mark(Mark(**packet["mark"]))
        elif self._ended is not None and not self._ended.done():
            self._calm()
            self._answer_mark(None)
            self._ended.set_result(SlotReport(**packet["ended"]))

    def _answer_mark(self, mark: Mark | None) -> None:
        if self._mark is not None and not self._mark.done():
            self._mark.set_result(mark)

    def _calm(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _lose(self) -> None:
        self.lost = True
        self._calm()
        self._answer_mark(None)
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(SlotLost())
            self._ended.exception()  # it is no fault when nobody waits for it


class ZygoteLink:
    """The zygote's process: forks slots, and says which of them died."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._control = control
        self._slots: dict[int, SlotLink] = {}
        self._started: dict[int, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self.lost = False
        self._loop.add_reader(control, self._readable)

    @classmethod
    async def start(cls, folder: Path) -> ZygoteLink:
        """Start one and wait until it is warm. Raises ZygoteError."""
        link = cls(*start_clean("consumer.zygote", folder, threads=ZYGOTE_THREADS))
        try:
            await asyncio.wait_for(link._ready, START_SECONDS)
        except (TimeoutError, SlotLost) as error:
            await link.close()
            raise ZygoteError(
                "the zygote did not start: run `python -m consumer.zygote` by hand to see why"
            ) from error
        except asyncio.CancelledError:
            await link.close()
            raise
        return link

    async def new_slot(self, number: int) -> SlotLink:
        """Fork the process of slot `number`. Raises ZygoteError."""
        ours, theirs = packets.socket_pair()
        ours.setblocking(False)
        self._started[number] = self._loop.create_future()
        # User code may have stopped it, together with the slot that it killed.
        self._process.send_signal(signal.SIGCONT)
        try:
            with theirs:
                packets.send(self._control, {"slot": number}, (theirs.fileno(),))
            pid = await asyncio.wait_for(self._started[number], START_SECONDS)
            slot = SlotLink(ours, pid)
        except (OSError, TimeoutError, SlotLost) as error:
            ours.close()
            raise ZygoteError(f"slot {number} could not be started") from error
        self._slots[number] = slot
        return slot

    async def close(self) -> None:
        """The zygote kills its slots, their folds, and leaves."""
        self._lose()
        self._control.close()
        for slot in self._slots.values():
            slot.close()
        await asyncio.to_thread(self._reap)

    def _reap(self) -> None:
        try:
            self._process.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _readable(self) -> None:
        try:
            packet, _ = packets.receive(self._control)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._lose()
            return
        if "ready" in packet:
            if not self._ready.done():
                self._ready.set_result(None)
        elif "gone" in packet:
            slot = self._slots.pop(packet["gone"], None)
            if slot is not None:
                slot.buried()
                slot.close()
        elif not self._started[packet["slot"]].done():
            self._started[packet["slot"]].set_result(packet["pid"])

    def _lose(self) -> None:
        """The zygote is dead. A slot that lives goes on; nobody will say so of a dead one."""
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._control)
        waiting: list[asyncio.Future[Any]] = [self._ready, *self._started.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(SlotLost())
                future.exception()
        for slot in self._slots.values():
            if slot.lost:
                slot.close()


def start_clean(
    module: str, folder: Path, *, threads: int
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start one of our modules as a process of its own, and the worker's end of its socket.

    Its environment, which user code below it can read for ever, holds nothing of ours that is
    secret.
    """
    ours, theirs = packets.socket_pair()
    ours.setblocking(False)
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment = {
        "LANG": "C.UTF-8",
        **kept,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # The order of sets of strings is the same on every worker.
        "PYTHONHASHSEED": "0",
        # What C code allocates comes in huge pages, where the kernel has them: a new process must
        # fault in all its memory, which long-lived ones did long ago.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", module, str(theirs.fileno())],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    return process, ours
