"""The descendants of a slot: which there are, what they use, and how all of them are killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from consumer.sandbox.linux import cpu_clock

_TICK = os.sysconf("SC_CLK_TCK")
# From the beginning of a line: a process may name itself as one of them, but for the line break,
# which the kernel shows as "\n" (proc_task_name, fs/proc/array.c).
_STATUS = re.compile(
    rb"\nVmHWM:\s+(?P<peak>\d+) kB\n.*"
    rb"RssAnon:\s+(?P<anonymous>\d+) kB\n"
    rb"RssFile:\s+(?P<file>\d+) kB\n"
    rb"RssShmem:\s+(?P<shared>\d+) kB\n.*"
    rb"VmPTE:\s+(?P<tables>\d+) kB\n"
    rb"VmSwap:\s+(?P<swapped>\d+) kB\n.*"
    rb"Threads:\s+(?P<threads>\d+)\n",
    re.DOTALL,
)
_READ = 1 << 16
_HAS_CHILDREN_FILES = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""CONFIG_PROC_CHILDREN."""


@dataclass(frozen=True)
class Status:
    """What the kernel says of a process's memory, in kB, and its threads."""

    private: int
    """Anonymous and shared-memory pages, inherited ones included, and the tables of all pages."""

    shared: int
    """Those of shared memory: files of a tmpfs too."""

    file: int
    peak: int
    """The most that private and file pages ever were together."""

    threads: int


def status_of(pid: int | str) -> Status | None:
    """None when the process is gone, or a zombie."""
    try:
        found = _STATUS.search(_contents(f"/proc/{pid}/status"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    if found is None or not int(found["peak"]):
        return None
    peak, anonymous, file, shared, tables, swapped, threads = (int(n) for n in found.groups())
    return Status(anonymous + shared + swapped + tables, shared, file, peak, threads)


@dataclass(frozen=True)
class Share:
    """A process's part of its pages of anonymous and shared memory, in kB."""

    alone: int
    """Pages that no other process has."""

    proportional: int
    """Each page divided by the number of processes that have it."""

    shared: int
    """Pages of shared memory alone, divided likewise."""


def share_of(pid: int | str) -> Share | None:
    """None when the process is gone. About half a millisecond for a process of 100 MB."""
    try:
        lines = _contents(f"/proc/{pid}/smaps_rollup").split(b"\n")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    values: dict[bytes, int] = {}
    for line in lines[1:]:
        name, _, rest = line.partition(b":")
        if rest:
            values[name] = int(rest.split()[0])
    if not values:
        return None
    anonymous = values.get(b"Pss_Anon", 0) + values.get(b"Pss_Shmem", 0) + values.get(b"SwapPss", 0)
    alone = values.get(b"Private_Dirty", 0) + values.get(b"Swap", 0)
    return Share(alone, anonymous, values.get(b"Pss_Shmem", 0))


def descendants(root: int) -> list[int]:
    """All processes that `root` started, and those that they started. May miss the very newest."""
    read = _reader()
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = read(waiting.pop())
        found += below
        waiting += below
    return found


def children(pid: int) -> list[int]:
    """The processes that `pid` started, or that it has adopted."""
    return _reader()(pid)


def _reader() -> Callable[[int], list[int]]:
    return _by_children_files if _HAS_CHILDREN_FILES else _children_by_parent()


def _by_children_files(pid: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return found
    for thread in threads:
        try:
            children_file = _contents(f"/proc/{pid}/task/{thread}/children")
            found += [int(child) for child in children_file.split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _children_by_parent() -> Callable[[int], list[int]]:
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            below.setdefault(int(fields[1]), []).append(int(name))
    return lambda pid: below.get(pid, [])


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of living processes, and of those children that they have waited for."""
    total = 0.0
    for pid in pids:
        fields = _stat(pid)
        if fields is None:
            continue
        with contextlib.suppress(OSError):  # it is gone
            total += time.clock_gettime(cpu_clock(pid))
        total += (int(fields[13]) + int(fields[14])) / _TICK
    return total


def dead_children_cpu_seconds(pid: int) -> float:
    """CPU time of the children that a process has waited for, to 10 ms."""
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) / _TICK if fields is not None else 0.0


def faults_of(pid: int) -> int:
    """How many pages the kernel has given to a process on first touch or first write."""
    fields = _stat(pid)
    return int(fields[7]) if fields is not None else 0


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/<pid>/stat from the state on: [1] parent, [7] faults, [13, 14] cutime."""
    try:
        return _contents(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _contents(path: str) -> bytes:
    """Of a file of /proc: several are read for each phase of each fold, and `open` does more."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, _READ)
        while content and (more := os.read(descriptor, _READ)):
            content += more
        return content
    finally:
        os.close(descriptor)


def kill_descendants(root: int) -> None:
    """Send SIGKILL to all descendants. They are stopped first: what is stopped forks no more."""
    stopped: set[int] = set()
    while found := set(descendants(root)) - stopped:
        for pid in found:
            _signal(pid, signal.SIGSTOP)
        stopped |= found
    for pid in stopped:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
