"""A slot: forks one fold at a time, measures it, holds it to its limits, leaves nothing of it.

A slot is forked from the zygote once. The next fold's process is forked when the last one has
ended, and waits; so forking costs a fold no time. A slot passes a fold's socket on without reading
it: no data is ever in its memory, which the next fold inherits.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from consumer import packets
from consumer.execution.measurement import Meter, Usage
from consumer.execution.process_tree import kill_descendants
from consumer.sandbox.linux import adopt_orphans, plain_fork, signal_when_parent_dies
from consumer.sandbox.reaper import Reaper
from consumer.scratch import remove_tree

_RETRY = 0.001
_DYING_MILLISECONDS = 50
"""A killed process gives back its memory first: 2 ms for a small one."""

_BUSY_MILLISECONDS = 1000
"""After so long the worker hears that this process still kills and reaps. One of many gigabytes
takes a while to give them back."""

_REMOVING_SECONDS = 0.2
"""For a fold's files: some ten thousand."""


@dataclass(frozen=True)
class SlotLimits:
    """What a slot enforces."""

    wall: float
    cpu: float
    memory: int
    """kB."""

    processes: int


Become = Callable[[int], NoReturn]
"""What a forked child does: leaves the slot, waits on the descriptor for a job, and runs it."""


class _Ahead:
    """A fold's process, forked ahead of need: it waits for its sockets, and costs no time then."""

    def __init__(self, become: Become, *, strict: bool) -> None:
        self._become = become
        self._strict = strict
        self._fork()

    def start(self, descriptors: list[int]) -> tuple[int, int | None]:
        """Let it begin; returns its pid, and a descriptor of its own file system if it has one."""
        try:
            box = self._let_go(descriptors)
        except (OSError, EOFError):  # it was killed while it waited
            self._orders.close()
            os.waitpid(self._pid, 0)
            self._fork()
            box = self._let_go(descriptors)
        # Another fold's code may have stopped it while it waited.
        os.kill(self._pid, signal.SIGCONT)
        for descriptor in descriptors:
            os.close(descriptor)
        return self._pid, box

    def _let_go(self, descriptors: list[int]) -> int | None:
        box = None
        if self._strict:
            _, (box,) = packets.receive(self._orders)
        packets.send(self._orders, {}, tuple(descriptors))
        return box

    def has_begun(self) -> bool:
        """Whether the process, dead now, had taken its sockets before it died.

        A socket that is closed with packets unread resets its peer (unix(7) leaves that out).
        """
        with self._orders:
            try:
                self._orders.recv(1)
            except ConnectionResetError:
                return False
        return True

    def _fork(self) -> None:
        self._orders, theirs = packets.socket_pair()
        self._pid = plain_fork()
        if self._pid == 0:
            self._become(theirs.fileno())
        theirs.close()


def serve(control: socket.socket, become: Become, *, strict: bool) -> NoReturn:
    """Run folds as ordered, until the worker is gone.

    strict: the folds' processes are in a pid namespace of this slot's own.
    """
    # The worker puts this process into a control group first, and so whatever it starts.
    packets.send(control, {"waiting": True})
    _next_order(control)
    adopt_orphans()
    reaper = Reaper() if strict else None
    # A fold's code may have stopped it: then it would not notice that the worker is gone, too.
    signal_when_parent_dies(signal.SIGCONT)
    while True:
        ahead = _Ahead(become, strict=strict)
        packet, descriptors = _next_order(control)
        # An order about a fold that has ended meanwhile says nothing.
        while packet["do"] != "run":
            packet, descriptors = _next_order(control)
        _run(control, SlotLimits(**packet["limits"]), ahead, descriptors, reaper)
        if packet["folder"] is not None:
            _remove_files(control, packet["folder"])


def _remove_files(control: socket.socket, folder: str) -> None:
    """Of the fold that has ended; what takes long is left to the worker, for the next one waits."""
    # What cannot be removed goes with the worker's own folder; a worker that is gone needs no word.
    with contextlib.suppress(OSError):
        if not remove_tree(Path(folder), within=_REMOVING_SECONDS):
            packets.send(control, {"left": folder})


def _next_order(control: socket.socket) -> tuple[packets.Packet, list[int]]:
    try:
        return packets.receive(control)
    except EOFError:
        os._exit(0)


def _run(
    control: socket.socket,
    limits: SlotLimits,
    ahead: _Ahead,
    descriptors: list[int],
    reaper: Reaper | None,
) -> None:
    slot = os.getpid()
    fold, box = ahead.start(descriptors)
    meter = Meter(slot, fold, reaper.pid if reaper else None, box)
    pidfd = os.pidfd_open(fold)
    try:
        over = _watch(control, pidfd, meter, limits)
        if reaper is None:
            status = _clear(control, slot, fold, pidfd, meter)
        else:
            status = _clear_namespace(control, fold, pidfd, reaper, meter)
    finally:
        os.close(pidfd)
        if box is not None:
            os.close(box)
    begun = ahead.has_begun()
    report = {"begun": begun, "status": status, "over": over, **vars(meter.total())}
    try:
        packets.send(control, {"ended": report})
    except OSError:  # the worker is gone, and so is the fold
        os._exit(0)


def _watch(
    control: socket.socket, pidfd: int, meter: Meter, limits: SlotLimits
) -> dict[str, float | str] | None:
    """Returns when the fold has ended, must end, or used too much: then what it used."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(control, select.POLLIN)
    started = time.monotonic()
    deadline = started + limits.wall
    while True:
        pause = min(meter.next_sample, deadline) - time.monotonic()
        ready = {number for number, _ in poll.poll(max(0.0, pause) * 1000)}
        if pidfd in ready:
            return None
        if control.fileno() in ready and _obey(control, meter):
            return None
        now = time.monotonic()
        if now >= deadline:
            meter.sample()
            return {"limit": "wall", "used": now - started}
        if now >= meter.next_sample and (over := _exceeded(meter.sample(), limits)):
            return over


def _obey(control: socket.socket, meter: Meter) -> bool:
    """Whether the fold must end now."""
    try:
        packet, _ = packets.receive(control)
        mark = meter.mark()
        if packet["do"] == "mark":
            packets.send(control, {"mark": vars(mark)})
    except (EOFError, OSError):
        return True
    return bool(packet["do"] == "kill")


def _exceeded(usage: Usage, limits: SlotLimits) -> dict[str, float | str] | None:
    if usage.memory > limits.memory:
        return {"limit": "memory", "used": usage.memory}
    if usage.cpu > limits.cpu:
        return {"limit": "cpu", "used": usage.cpu}
    if usage.processes > limits.processes:
        return {"limit": "processes", "used": usage.processes}
    return None


def _say_busy(control: socket.socket) -> None:
    """To a worker that would take a slot without an answer for one that a fold has stopped."""
    with contextlib.suppress(OSError):  # it is gone, and this slot goes when it is done
        packets.send(control, {"busy": True})


def _clear_namespace(
    control: socket.socket, fold: int, pidfd: int, reaper: Reaper, meter: Meter
) -> int:
    """Kill and reap all that is in the slot's namespace; returns the fold's wait status."""
    os.kill(fold, signal.SIGKILL)
    dying = select.poll()
    dying.register(pidfd, select.POLLIN)
    while not dying.poll(_BUSY_MILLISECONDS):  # it gives back its memory first
        _say_busy(control)
    _, status, usage = os.wait4(fold, 0)
    meter.reaped(usage.ru_utime + usage.ru_stime)
    try:
        meter.reaped(reaper.clear(partial(_say_busy, control)))
    except (OSError, EOFError):  # the zygote buries this slot, and all that is below it
        os._exit(1)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # in case one became a child of this process
            continue
    return status


def _clear(control: socket.socket, slot: int, fold: int, pidfd: int, meter: Meter) -> int:
    """Kill and reap until no descendant is left; returns the fold's wait status.

    Orphans become children of this process, so when it has no child, nothing is left. What was
    forked while one round killed is met in the next round.
    """
    status = 0
    os.kill(fold, signal.SIGKILL)
    dead = select.poll()
    dead.register(pidfd, select.POLLIN)
    dead.poll(_DYING_MILLISECONDS)
    said = time.monotonic()
    while True:
        if time.monotonic() - said > _BUSY_MILLISECONDS / 1000:
            said = time.monotonic()
            _say_busy(control)
        while True:
            try:
                pid, ended, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return status
            if pid == 0:
                break
            meter.reaped(usage.ru_utime + usage.ru_stime)
            if pid == fold:
                status = ended
        kill_descendants(slot)
        time.sleep(_RETRY)
