"""What one fold uses: CPU time and peak memory of its whole process tree, and no one else's."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass

from consumer.execution.process_tree import (
    Share,
    cpu_seconds,
    dead_children_cpu_seconds,
    descendants,
    faults_of,
    share_of,
    status_of,
)

_LEAST_INTERVAL = 0.010
_LONE_INTERVAL = 0.040
"""For one process alone: the kernel keeps its peak, so nothing is missed between two samples."""

_LARGEST_INTERVAL = 0.050
_COST = 20
"""A sample is taken again after this many times what it cost: at most 5 % of a core."""


_READING = 0.02
"""CPU seconds that one sample may take for the shares of many processes: on a busy machine the
clock goes on while the slot waits for its turn."""


_FORK_BOMB = 4
"""New processes between two samples from which on only their number is looked at."""

_PAGE = resource.getpagesize() // 1024
_FEW = 8 * 1024
"""kB."""


@dataclass(frozen=True)
class Usage:
    """What a fold has used until now."""

    cpu: float
    """Seconds, of all its processes, dead ones included."""

    memory: int
    """Peak kB."""

    processes: int
    """Processes and threads at this moment."""


@dataclass(frozen=True)
class _OwnShare:
    """What one process of several has for itself, as read at a moment."""

    moment: float
    private: int
    memory: int
    shared: int

    def holds(self, private: int, now: float) -> bool:
        """Whether it need not be read again. All in kB and seconds."""
        return abs(private - self.private) < 1024 and now - self.moment < 1


_NOT_READ = _OwnShare(0.0, 0, 0, 0)


class Meter:
    """Measures a fold that its slot has just forked.

    A fork inherits the slot's pages. Its own memory is what has grown since, and those inherited
    pages that it wrote to, which the kernel then copied. One process alone is read from
    /proc/<pid>/status, with the peak that the kernel keeps, so that what is allocated between two
    samples is not missed; a tree of processes by its proportional shares, which count a page that
    several of them have only once.
    """

    def __init__(self, slot: int, fold: int, reaper: int | None, box: int | None) -> None:
        """reaper: a process below the slot that is not the fold's. box: its own file system."""
        self._slot = slot
        self._fold = fold
        self._reaper = reaper
        self._box = box
        self._count = 1
        self._orphans_before = dead_children_cpu_seconds(reaper) if reaper else 0.0
        own = status_of(slot)
        self._inherited = own.private if own else 0
        self._file = 0
        self._grown = 0
        self._copied = 0
        self._read_at = 0
        self._shares: dict[int, _OwnShare] = {}
        self._reaped_cpu = 0.0
        self._peak = 0
        self._cpu = 0.0
        self._started = time.monotonic()
        self.next_sample = self._started + _LEAST_INTERVAL

    def sample(self) -> Usage:
        """Measure now."""
        began = time.thread_time()
        usage = self._measure(exactly=False)
        cost = (time.thread_time() - began) * _COST
        now = time.monotonic()
        age = (now - self._started) / 20
        least = _LONE_INTERVAL if usage.processes <= 1 else _LEAST_INTERVAL
        self.next_sample = now + max(least, cost, min(age, _LARGEST_INTERVAL))
        return usage

    def mark(self) -> Usage:
        """Measure exactly: at the end of a phase, while the fold waits."""
        return self._measure(exactly=True)

    def _measure(self, *, exactly: bool) -> Usage:
        pids = [pid for pid in descendants(self._slot) if pid != self._reaper]
        grows_fast = len(pids) > self._count + _FORK_BOMB
        self._count = len(pids)
        if grows_fast:  # look again, at once, before anything that takes time
            return Usage(self._cpu, self._peak, len(pids))
        self._cpu = max(self._cpu, self._reaped_cpu + cpu_seconds(pids) + self._orphans_cpu())
        processes = 0
        if len(pids) > 1:
            memory, processes = self._together(pids)
            self._peak = max(
                self._peak,
                memory + self._kept_in_files(sum(share.shared for share in self._shares.values())),
            )
        status = status_of(self._fold)
        if status is not None:
            grown = max(0, status.private - self._inherited)
            self._file = max(self._file, status.file)
            if exactly:
                self._read_copied(grown)
                # At its peak the process had at most so many pages of files.
                grown = max(grown, status.peak - self._file - self._inherited)
            if len(pids) <= 1:
                # Inherited pages are copied early, and looked at late.
                self._grown = max(self._grown, grown)
                files = self._kept_in_files(status.shared)
                self._peak = max(self._peak, self._grown + self._copied + files)
                processes = status.threads
        return Usage(self._cpu, self._peak, processes)

    def reaped(self, cpu: float) -> None:
        """A process of the tree is dead, and used so many CPU seconds, its dead children's too."""
        self._reaped_cpu += cpu

    def total(self) -> Usage:
        """When all processes are dead."""
        return Usage(max(self._cpu, self._reaped_cpu), self._peak, 0)

    def _orphans_cpu(self) -> float:
        if self._reaper is None:
            return 0.0
        return dead_children_cpu_seconds(self._reaper) - self._orphans_before

    def _kept_in_files(self, mapped: int) -> int:
        """What the fold's own file system takes beyond what its processes have mapped, in kB."""
        if self._box is None:
            return 0
        space = os.fstatvfs(self._box)
        used = (space.f_blocks - space.f_bfree) * space.f_frsize // 1024
        return max(0, used - mapped)

    def _together(self, pids: list[int]) -> tuple[int, int]:
        """Memory of several processes, and how many processes and threads they are."""
        statuses = {pid: status for pid in pids if (status := status_of(pid)) is not None}
        self._shares = {pid: share for pid, share in self._shares.items() if pid in statuses}
        now = time.monotonic()
        enough = time.thread_time() + _READING
        inherited = _still_shared(share_of(self._slot))
        # Reading one can take long, when hundreds fork: those read longest ago go first.
        for pid in sorted(statuses, key=lambda pid: self._shares.get(pid, _NOT_READ).moment):
            if time.thread_time() > enough:
                break
            private = statuses[pid].private
            if not self._shares.get(pid, _NOT_READ).holds(private, now) and (
                share := share_of(pid)
            ):
                memory = max(share.alone, share.proportional - inherited)
                self._shares[pid] = _OwnShare(now, private, memory, share.shared)
        memory = sum(share.memory for share in self._shares.values())
        return memory, sum(status.threads for status in statuses.values())

    def _read_copied(self, grown: int) -> None:
        """How many inherited pages were copied, in kB.

        Each copy was a page fault. As long as there were few, their number is near enough, and
        costs nothing. To look at every page takes two milliseconds, so that is done only where the
        fold has grown by as much again.
        """
        faulted = faults_of(self._fold) * _PAGE
        touched = max(faulted, grown)
        if touched <= _FEW:
            self._copied = max(self._copied, faulted - grown)
        elif touched - self._read_at >= _FEW:
            self._read_at = touched
            if (share := share_of(self._fold)) is not None:
                self._copied = max(self._copied, share.alone - grown)


def _still_shared(slot: Share | None) -> int:
    """A process's part of the pages that all forks of the zygote have together."""
    return max(0, slot.proportional - slot.alone) if slot else 0
