"""What a fold may leave behind: processes, files, mounts, shared memory, queues, descriptors."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from datarun.attack.attack import MARK, SYSV_KEY

_KEEPERS = ("bwrap", "fold zygote", "fold slot", "fold reaper")
"""Processes that live as long as their worker, and longer than any fold."""

_PUBLIC_FOLDERS = ("/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/var/crash")
_SYSV = ("shm", "msg", "sem")

Process = tuple[int, float]
"""Process id and time of birth: a number may be used again."""


@dataclass(frozen=True)
class Traces:
    """What there is around a worker at one moment."""

    worker: Process | None
    """None when it is dead."""

    keepers: frozenset[Process]
    processes: Mapping[str, int]
    """Name -> how many there are, below the worker or in one of its sandboxes."""

    files: frozenset[str]
    mounts: int
    shared_memory: frozenset[str]
    descriptors: int
    """Open files of the worker."""

    queues: Mapping[str, int] = field(default_factory=dict)
    """Name of RabbitMQ's queue -> messages in it."""


def traces_of(
    worker: int, folders: Iterable[Path], queues: Mapping[str, int] | None = None
) -> Traces:
    """folders: where the worker keeps what belongs to its folds."""
    folders = tuple(folders)
    born = _born(worker)
    below = _below(worker)
    strays = _strays({worker, *below}, folders)
    names = {pid: _name(pid) for pid in (*below, *strays)}
    return Traces(
        worker=None if born is None else (worker, born),
        keepers=frozenset(
            (pid, when)
            for pid, name in names.items()
            if name.startswith(_KEEPERS) and (when := _born(pid)) is not None
        ),
        processes=Counter(name for name in names.values() if name),
        files=frozenset(_files(folders)),
        mounts=len(_lines(f"/proc/{worker}/mountinfo")),
        shared_memory=frozenset(_shared_memory()),
        descriptors=_count(f"/proc/{worker}/fd"),
        queues=dict(queues or {}),
    )


def differences(before: Traces, now: Traces, *, same_keepers: bool) -> list[str]:
    """What is there now and was not, and what is gone that has to stay, in sentences.

    same_keepers: the zygote and its slots have to be the same processes, too.
    """
    if now.worker != before.worker:
        return ["the worker is not the same process any more"]
    found = []
    for name in sorted({*before.processes, *now.processes}):
        more = now.processes.get(name, 0) - before.processes.get(name, 0)
        if more:
            found.append(f"{abs(more)} process(es) `{name}` {'left' if more > 0 else 'lost'}")
    if same_keepers and before.keepers - now.keepers:
        found.append("the zygote, or a slot, is not the same process any more")
    for what, left in (
        ("files", now.files - before.files),
        ("shared memory", now.shared_memory - before.shared_memory),
        ("queues", set(now.queues) - set(before.queues)),
    ):
        if left:
            some = ", ".join(sorted(left)[:3])
            found.append(f"{len(left)} {what} left: {some}")
    if now.mounts != before.mounts:
        found.append(f"{now.mounts - before.mounts:+d} mounts")
    if now.descriptors > before.descriptors:
        found.append(f"the worker has {now.descriptors - before.descriptors} more open files")
    for name, depth in now.queues.items():
        if depth > before.queues.get(name, depth):
            found.append(f"{depth - before.queues[name]} message(s) left in queue {name}")
    return found


def _below(worker: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [process.pid for process in psutil.Process(worker).children(recursive=True)]
    return []


def _strays(known: set[int], folders: tuple[Path, ...]) -> list[int]:
    """Processes that got away: in a sandbox of this worker's, or in a folder of its folds'."""
    own = _link("/proc/self/ns/pid")
    sandboxes = {_link(f"/proc/{pid}/ns/pid") for pid in known} - {own, ""}
    found = []
    for pid in psutil.pids():
        if pid in known or pid == os.getpid():
            continue
        place = _link(f"/proc/{pid}/cwd")
        if _link(f"/proc/{pid}/ns/pid") in sandboxes or any(
            place.startswith(f"{folder}{os.sep}") for folder in folders
        ):
            found.append(pid)
    return found


def _files(folders: Iterable[Path]) -> Iterable[str]:
    for folder in folders:
        for place, inner, names in os.walk(folder):
            yield from (os.path.join(place, name) for name in (*inner, *names))
    for public in _PUBLIC_FOLDERS:
        yield from glob.glob(f"{public.rstrip('/')}/*{MARK}*")


def _shared_memory() -> Iterable[str]:
    """System V's, by the key that attacks use."""
    for kind in _SYSV:
        for line in _lines(f"/proc/sysvipc/{kind}")[1:]:
            if int(line.split()[0]) & 0xFFFFFFFF == SYSV_KEY:
                yield f"System V {kind} {line.split()[1]}"


def _name(pid: int) -> str:
    """Empty for what is gone, or only waits to be reaped."""
    with suppress(psutil.Error, OSError):
        if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _born(pid: int) -> float | None:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).create_time()
    return None


def _link(path: str) -> str:
    with suppress(OSError):
        return os.readlink(path)
    return ""


def _lines(path: str) -> list[str]:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _count(folder: str) -> int:
    with suppress(OSError):
        return len(os.listdir(folder))
    return 0
