"""A slot: forks one fold at a time, measures it, holds it to its limits, leaves nothing of it.

A slot is forked from the zygote once. It passes a fold's socket on without reading it, so that no
data is ever in its memory, which the next fold inherits.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NoReturn

from consumer import packets
from consumer.linux import adopt_orphans
from consumer.measurement import Meter, Usage
from consumer.process_tree import kill_descendants
from consumer.seal import FoldStreams

_RETRY = 0.001


@dataclass(frozen=True)
class SlotLimits:
    """What a slot enforces."""

    wall: float
    cpu: float
    memory: int
    """kB."""

    processes: int


def serve(control: socket.socket, become: Callable[[FoldStreams], NoReturn]) -> NoReturn:
    """Run folds as ordered, until the worker is gone. become: what a forked child does."""
    adopt_orphans()
    while True:
        try:
            packet, descriptors = packets.receive(control)
        except EOFError:
            os._exit(0)
        if packet["do"] == "run":  # an order about a fold that has ended meanwhile says nothing
            limits = SlotLimits(**packet["limits"])
            _run(control, limits, FoldStreams(*descriptors), become)


def _run(
    control: socket.socket,
    limits: SlotLimits,
    streams: FoldStreams,
    become: Callable[[FoldStreams], NoReturn],
) -> None:
    slot = os.getpid()
    started = time.monotonic()
    fold = os.fork()
    if fold == 0:
        become(streams)
    for descriptor in (streams.connection, streams.stdout, streams.stderr):
        os.close(descriptor)
    meter = Meter(slot, fold)
    over = _watch(control, fold, meter, limits, started)
    status = _clear(slot, fold, meter)
    report = {"status": status, "over": over, **asdict(meter.total())}
    try:
        packets.send(control, {"ended": report})
    except OSError:  # the worker is gone, and so is the fold
        os._exit(0)


def _watch(
    control: socket.socket, fold: int, meter: Meter, limits: SlotLimits, started: float
) -> dict[str, float | str] | None:
    """Returns when the fold has ended, must end, or used too much: then what it used."""
    descriptor = os.pidfd_open(fold)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(control, select.POLLIN)
    deadline = started + limits.wall
    try:
        while True:
            pause = min(meter.next_sample, deadline) - time.monotonic()
            ready = {number for number, _ in poll.poll(max(0.0, pause) * 1000)}
            if descriptor in ready:
                return None
            if control.fileno() in ready and _obey(control, meter):
                return None
            now = time.monotonic()
            if now >= deadline:
                meter.sample()
                return {"limit": "wall", "used": now - started}
            if now >= meter.next_sample and (over := _exceeded(meter.sample(), limits)):
                return over
    finally:
        os.close(descriptor)


def _obey(control: socket.socket, meter: Meter) -> bool:
    """Whether the fold must end now."""
    try:
        packet, _ = packets.receive(control)
        if packet["do"] == "mark":
            packets.send(control, {"mark": asdict(meter.mark())})
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


def _clear(slot: int, fold: int, meter: Meter) -> int:
    """Kill and reap until no descendant is left; returns the fold's wait status.

    Orphans become children of this process, so when it has no child, nothing is left. What was
    forked while one round killed is met in the next round.
    """
    status = 0
    os.kill(fold, signal.SIGKILL)
    while True:
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
