"""The worker's end of a slot: orders go out, reports come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from consumer import packets
from consumer.execution.process_tree import descendants
from consumer.sandbox.cgroups import SlotGroup

ANSWER_SECONDS = 3.0
"""After so long without an answer, a slot is killed: user code may have stopped it."""


_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class SlotReport:
    """A fold has ended, and nothing that it started is alive."""

    begun: bool
    """Whether the fold's process had its job before it died."""

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


OnLeft = Callable[[Path], None]
"""Called with the folder of a fold that has left more than its slot has time to remove."""


class SlotLink:
    """One slot's process; runs one fold at a time."""

    def __init__(
        self,
        control: socket.socket,
        pidfd: int,
        group: SlotGroup,
        on_left: OnLeft | None = None,
    ) -> None:
        """pidfd: of the slot's process, or of one above it; closed with the link. group: what the
        slot is put into before it starts anything; removed by whoever sees the slot dead."""
        self._loop = asyncio.get_running_loop()
        self._control = control
        self._on_left = on_left
        self._pidfd = pidfd
        self.group = group
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[SlotReport] | None = None
        self._limits: dict[str, float] = {}
        self._look: asyncio.TimerHandle | None = None
        self._mark: asyncio.Future[Mark | None] | None = None
        self._impatience: asyncio.TimerHandle | None = None
        self._killing = False
        self._closed = False
        self.lost = False
        self._loop.add_reader(control, self._readable)

    async def begun(self) -> None:
        """Returns when the slot takes orders. SlotLost when it is dead."""
        await self._begun

    def run(
        self, limits: dict[str, float], descriptors: tuple[int, int, int], folder: Path | None
    ) -> None:
        """Start a fold; `ended` tells when it has ended. OSError when the slot is dead.

        descriptors: its socket, stdout and stderr. folder: what the slot removes afterwards.
        """
        order = {"do": "run", "limits": limits, "folder": str(folder) if folder else None}
        self._ended = self._loop.create_future()
        self._killing = False
        self._limits = limits
        self.group.limit(int(limits["memory"]) << 10, int(limits["processes"]))
        try:
            packets.send(self._control, order, descriptors)
            # Another fold's code may have stopped it while it was idle.
            signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
        except OSError:
            self.close()
            raise
        if self.group.resources:
            self._look = self._loop.call_later(_LOOK_SECONDS, self._look_at_group)

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
        """The slot kills what it runs and leaves, also when somebody has stopped it."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._control)
            self._control.close()
            self._lose()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
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
            self._impatience = self._loop.call_later(ANSWER_SECONDS, self._kill_slot)

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
            self._impatience = self._loop.call_later(ANSWER_SECONDS, self._lose)
            return
        if "waiting" in packet:
            self._begin()
        elif "busy" in packet:
            if self._impatience is not None:
                self._calm()
                self._impatience = self._loop.call_later(ANSWER_SECONDS, self._kill_slot)
        elif "mark" in packet:
            if not self._killing:
                self._calm()
            self._answer_mark(Mark(**packet["mark"]))
        elif "left" in packet:
            if self._on_left is not None:
                self._on_left(Path(packet["left"]))
        elif self._ended is not None and not self._ended.done():
            self._calm()
            self._answer_mark(None)
            self._ended.set_result(self._reported(SlotReport(**packet["ended"])))

    def _look_at_group(self) -> None:
        """A fold that goes on after a child of it was killed for its memory ends here."""
        if self.group.enforced() == "memory":
            self._killing = True
            self._order("kill")
        else:
            self._look = self._loop.call_later(_LOOK_SECONDS, self._look_at_group)

    def _reported(self, report: SlotReport) -> SlotReport:
        """With the limit that the kernel has enforced before the slot saw anything."""
        self._look_no_more()
        limit = self.group.enforced()
        if limit is None or (report.over is not None and limit != "memory"):
            return report
        used = max(report.memory, self._limits["memory"])
        if limit == "processes":
            used = self._limits["processes"] + 1
        return replace(report, over={"limit": limit, "used": used})

    def _begin(self) -> None:
        """The slot waits until it is in its control group. If it dies, its socket will say so."""
        number = _process_number(self._pidfd)
        if number < 0:
            return
        with contextlib.suppress(ProcessLookupError, BrokenPipeError):
            for pid in (number, *descendants(number)):
                self.group.take(pid)
            packets.send(self._control, {"do": "begin"})
            self._begun.set_result(None)

    def _answer_mark(self, mark: Mark | None) -> None:
        if self._mark is not None and not self._mark.done():
            self._mark.set_result(mark)

    def _calm(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _look_no_more(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _lose(self) -> None:
        self.lost = True
        self._calm()
        self._look_no_more()
        self._answer_mark(None)
        for waiting in (self._begun, self._ended):
            if waiting is not None and not waiting.done():
                waiting.set_exception(SlotLost())
                waiting.exception()  # it is no fault when nobody waits for it


def _process_number(pidfd: int) -> int:
    """Of the process, as this one sees it; -1 when it is dead (pidfd_open(2))."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
