"""The worker's end of a slot: orders go out, reports come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer import packets

ANSWER_SECONDS = 3.0
"""After so long without an answer, a slot is killed: user code may have stopped it."""


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

    def __init__(self, control: socket.socket, pidfd: int, on_left: OnLeft | None = None) -> None:
        """pidfd: of the slot's process; closed with the link."""
        self._loop = asyncio.get_running_loop()
        self._control = control
        self._on_left = on_left
        self._pidfd = pidfd
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
            # Another fold's code may have stopped it while it was idle.
            signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
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
        if "mark" in packet:
            if not self._killing:
                self._calm()
            self._answer_mark(Mark(**packet["mark"]))
        elif "left" in packet:
            if self._on_left is not None:
                self._on_left(Path(packet["left"]))
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
