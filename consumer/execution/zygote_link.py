"""The worker's end of the zygote: starts it, asks it for slots, hears which of them died."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from consumer import packets
from consumer.execution.slot_link import ANSWER_SECONDS, OnLeft, SlotLink, SlotLost
from consumer.sandbox.cgroups import SlotGroup
from consumer.sandbox.clean_process import start_clean
from consumer.sandbox.seal import ZYGOTE_THREADS
from schemas.errors import DatarunError
from schemas.states import Isolation

START_SECONDS = 60.0


class ZygoteError(DatarunError):
    """The zygote, or a slot, could not be started."""


class ZygoteLink:
    """The zygote's process: forks slots, and says which of them died."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, isolation: Isolation
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._control = control
        self._new_group = SlotGroup if isolation is Isolation.NONE else SlotGroup.make
        self._keys = itertools.count()
        """Each slot's process has one of its own: its number is given again when it is dead."""
        self._slots: dict[int, SlotLink] = {}
        self._started: dict[int, asyncio.Future[int]] = {}
        """For each slot asked for: its process, as a pidfd."""
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self.lost = False
        self._loop.add_reader(control, self._readable)

    @classmethod
    async def start(cls, folder: Path, isolation: Isolation) -> ZygoteLink:
        """Start one and wait until it is warm. Raises ZygoteError."""
        try:
            process = start_clean(
                "consumer.execution.zygote", folder, threads=ZYGOTE_THREADS, isolation=isolation
            )
        except (OSError, ImportError) as error:
            raise ZygoteError(f"the zygote could not be started: {error}") from error
        link = cls(*process, isolation)
        try:
            await asyncio.wait_for(link._ready, START_SECONDS)
        except (TimeoutError, SlotLost) as error:
            await link.close()
            raise ZygoteError("the zygote did not start: its own words are on stderr") from error
        except asyncio.CancelledError:
            await link.close()
            raise
        return link

    async def new_slot(self, number: int, on_left: OnLeft) -> SlotLink:
        """Fork the process of slot `number`. Raises ZygoteError."""
        ours, theirs = packets.socket_pair()
        ours.setblocking(False)
        key = next(self._keys)
        started = self._started[key] = self._loop.create_future()
        # User code may have stopped it, together with the slot that it killed.
        self._process.send_signal(signal.SIGCONT)
        try:
            with theirs:
                packets.send(self._control, {"slot": number, "key": key}, (theirs.fileno(),))
            pidfd = await asyncio.wait_for(started, START_SECONDS)
        except (OSError, TimeoutError, SlotLost) as error:
            ours.close()
            if isinstance(error, ConnectionError):
                # Dead, which the loop has not seen yet: the next try shall not ask it again.
                self._lose()
            raise ZygoteError(f"slot {number} could not be started") from error
        slot = self._slots[key] = SlotLink(ours, pidfd, self._new_group(), on_left)
        try:
            await asyncio.wait_for(slot.begun(), START_SECONDS)
        except (TimeoutError, SlotLost) as error:
            slot.close()
            raise ZygoteError(f"slot {number} did not begin") from error
        return slot

    async def close(self) -> None:
        """The zygote kills its slots, their folds, and leaves."""
        self._lose()
        self._control.close()
        for slot in self._slots.values():
            slot.close()
        await asyncio.to_thread(self._reap)
        for slot in self._slots.values():
            slot.group.remove()

    def _reap(self) -> None:
        try:
            self._process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _readable(self) -> None:
        try:
            packet, descriptors = packets.receive(self._control)
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
                slot.group.remove()
        else:
            started = self._started.pop(packet["started"])
            if started.done():  # nobody waits for it any longer
                os.close(*descriptors)
            else:
                started.set_result(*descriptors)

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
