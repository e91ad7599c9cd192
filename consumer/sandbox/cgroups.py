"""Control groups: the kernel's own limit on the memory and the processes of what is in one slot.

A slot measures its fold every few hundredths of a second and says by how much it went over; what
grows faster than that meets this wall. There is one group a slot, made from outside of the sandbox
when the slot starts, so that it costs a fold nothing. Both versions are used, where this process
may write: version 1 has a tree of groups for each resource, version 2 one for all
(cgroups(7); https://docs.kernel.org/admin-guide/cgroup-v2.html).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_RESOURCES = frozenset({"memory", "pids"})
_PREFIX = "datarun-slot-"
_ABANDONED_SECONDS = 60.0
"""What is older, and empty, is of a worker that was killed. A younger one may just be about
to be filled."""

_SPARE_MEMORY = 64 << 20
"""The slot is in its group too, and a fold that grows slowly shall meet the slot, which says by how
much it went over."""

_SPARE_PROCESSES = 24
"""The slot, its reaper, the fold forked ahead; and a fork bomb shall meet the slot, too. Fewer than
RLIMIT_NPROC leaves (`namespaces`), which keeps no count of what it has refused."""

Limit = Literal["memory", "processes"]

_LONGEST = 4096
"""Bytes of a file of counts."""

_MOST_PROCESSES = 1 << 22
"""The kernel knows no higher limit."""


@dataclass(frozen=True)
class Tree:
    """A hierarchy of groups that limits some resources, and where this process is in it."""

    resources: frozenset[str]
    """Version 1 has a hierarchy for each; of version 2's, one group limits all of them, or none."""

    unified: bool
    """Whether it is version 2's."""

    groups: tuple[Path, ...]
    """This process's own group, and those above it."""

    def make(self, name: str) -> Path | None:
        """The group `name` in the nearest group that takes one; None when none does."""
        for parent in self.groups:
            try:
                if self.unified:
                    self._hand_down(parent)
                (parent / name).mkdir(exist_ok=True)
            except OSError:  # not ours to write, or one with processes, which version 2 keeps whole
                if self.unified and self._has_limit(parent):
                    return None  # nothing shall leave what the operator has limited
                continue
            return parent / name
        return None

    def _hand_down(self, parent: Path) -> None:
        """Let the groups below `parent` have limits of their own: on all resources, or on none."""
        switches = parent / "cgroup.subtree_control"
        if missing := self.resources.difference(switches.read_text().split()):
            switches.write_text(" ".join(f"+{resource}" for resource in sorted(missing)))

    def _has_limit(self, group: Path) -> bool:
        limits = [group / f"{resource}.max" for resource in self.resources]
        return any(limit.exists() and limit.read_text().strip() != "max" for limit in limits)


class SlotGroup:
    """The group of one slot. What this process may not limit is not limited."""

    def __init__(
        self, memory: Path | None = None, pids: Path | None = None, *, unified: bool = False
    ) -> None:
        """unified: whether `memory` is version 2's."""
        self._memory = memory
        self._pids = pids
        self._limit = "memory.max" if unified else "memory.limit_in_bytes"
        self._unified = unified
        self._set: tuple[int, int] | None = None
        self._before: tuple[bytes, ...] = ()
        self._open: dict[Path, int] = {}
        """Files that are read at the beginning and the end of each fold, as descriptors."""

    @classmethod
    def make(cls) -> SlotGroup:
        """Where control groups cannot be written to, one without any effect."""
        _remove_abandoned()
        name = _PREFIX + secrets.token_hex(8)
        made: dict[str, Path | None] = {}
        unified = False
        # What is mounted twice is one hierarchy.
        for tree in {tree.resources: tree for tree in _trees()}.values():
            made |= dict.fromkeys(tree.resources, tree.make(name))
            unified |= tree.unified and "memory" in tree.resources
        return cls(made.get("memory"), made.get("pids"), unified=unified)

    @property
    def resources(self) -> tuple[str, ...]:
        """What it limits: `memory`, `pids`, both, or nothing."""
        held = {"memory": self._memory, "pids": self._pids}
        return tuple(resource for resource, folder in held.items() if folder is not None)

    def take(self, pid: int) -> None:
        """Put a process in, and what it starts from now on. ProcessLookupError when it is gone."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def limit(self, memory: int, processes: int) -> None:
        """For the next fold: bytes, and processes with their threads."""
        self._before = self._counts()
        if self._set == (memory, processes):
            return
        self._set = None
        if self._pids is not None:
            most = min(processes + _SPARE_PROCESSES, _MOST_PROCESSES)
            (self._pids / "pids.max").write_text(str(most))
        if self._memory is not None:
            # Pages of files that the last fold has read are given back. Where that is not enough,
            # the former limit stays, and this fold is held by its slot alone.
            try:
                (self._memory / self._limit).write_text(str(memory + _SPARE_MEMORY))
            except OSError as error:
                if error.errno == errno.EBUSY:
                    return
                raise
        self._set = memory, processes

    def enforced(self) -> Limit | None:
        """The limit for which the kernel has killed one of its processes, or refused a new one,
        since `limit` was called last."""
        after = self._counts()
        if after == self._before:
            return None
        kills, hits, refusals = (
            now - before
            for now, before in zip(self._parsed(after), self._parsed(self._before), strict=True)
        )
        # Killed alone says nothing: the machine, or a group above, may have been out of memory.
        if kills and hits:
            return "memory"
        return "processes" if refusals else None

    def _counts(self) -> tuple[bytes, ...]:
        """What the kernel has counted until now: the contents of its files."""
        files = []
        if self._memory is not None and self._unified:
            files.append(self._memory / "memory.events")
        elif self._memory is not None:
            files += self._memory / "memory.oom_control", self._memory / "memory.failcnt"
        if self._pids is not None:
            files.append(self._pids / "pids.events")
        return tuple(map(self._read, files))

    def _parsed(self, counts: tuple[bytes, ...]) -> tuple[int, int, int]:
        """How often one of its processes was killed for memory, its own limit of that was met, and
        a process was refused."""
        kills = hits = refusals = 0
        if not counts:  # before the first fold
            return kills, hits, refusals
        if self._memory is not None and self._unified:
            kills, hits = _count(counts[0], "oom_kill"), _count(counts[0], "oom")
        elif self._memory is not None:
            kills, hits = _count(counts[0], "oom_kill"), int(counts[1])
        if self._pids is not None:
            refusals = _count(counts[-1], "max")
        return kills, hits, refusals

    def _read(self, file: Path) -> bytes:
        """Opened once: that takes ten times as long as reading."""
        descriptor = self._open.get(file)
        if descriptor is None:
            descriptor = self._open[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(descriptor, _LONGEST, 0)

    def remove(self) -> None:
        """Once nothing is in it any more; else it is left, and found by a later worker."""
        while self._open:
            os.close(self._open.popitem()[1])
        for folder in self._folders:
            with _tolerated(errno.EBUSY, errno.ENOENT):
                folder.rmdir()

    @property
    def _folders(self) -> set[Path]:
        return {folder for folder in (self._memory, self._pids) if folder is not None}


def _count(counts: bytes, event: str) -> int:
    return int(dict(line.split() for line in counts.decode().splitlines())[event])


def _remove_abandoned() -> None:
    """The empty groups of workers that were killed."""
    for tree in _trees():
        for parent in tree.groups:
            for folder in parent.glob(f"{_PREFIX}*"):
                with _tolerated(errno.EBUSY, errno.ENOENT, errno.EACCES, errno.EPERM):
                    if time.time() - folder.stat().st_ctime > _ABANDONED_SECONDS:
                        folder.rmdir()


def _trees() -> list[Tree]:
    """Those that limit memory, and processes, with this process's groups in them."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own |= dict.fromkeys(names.split(","), path)
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        unified = kind == "cgroup2"
        root, place = mounted.split()[3:5]
        limited = (
            (Path(place) / "cgroup.controllers").read_text().split()
            if unified
            else options.split(",")
        )
        if not (resources := _RESOURCES.intersection(limited)):
            continue
        path = os.path.relpath(own["" if unified else min(resources)], root)
        if not path.startswith(".."):  # else it is not below what is mounted here
            below = Path(place) / path
            above = [folder for folder in below.parents if folder.is_relative_to(place)]
            found.append(Tree(resources, unified, (below, *above)))
    return found


@contextlib.contextmanager
def _tolerated(*numbers: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
