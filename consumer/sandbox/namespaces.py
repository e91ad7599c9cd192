"""What a strictly isolated fold has for itself: its own view of the host, and no rights in it.

The order of the steps is the kernel's: mounting needs the rights that a user namespace takes away,
so that comes last, and what was mounted before cannot be undone from within it.
"""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass

from consumer.sandbox.box import BOX
from consumer.sandbox.linux import (
    MountOption,
    Namespace,
    bind,
    drop_capabilities,
    filter_system_calls,
    make_read_only,
    mount,
    refuse_new_privileges,
    remount,
    signal_when_parent_dies,
    unshare,
)

_INODES = 100_000
_USER = 1000
_CAREFUL = MountOption.NO_SETUID | MountOption.NO_DEVICES
_NO_PROGRAMS = _CAREFUL | MountOption.NO_EXECUTION
_OWN = Namespace.MOUNT | Namespace.IPC | Namespace.UTS
_PLACE = str(BOX)
_FOLDERS = tuple(f"{BOX}/{name}" for name in ("tmp", "shm"))
_SPARE_PROCESSES = 32
"""A fold that forks too much is met by its slot, which says so; the kernel's limit is the wall."""


def enter() -> int:
    """Own mounts, /proc, and an empty /box; returns a descriptor of that, to see how full it is.

    Comes right after the fork, ahead of need: all that takes time and depends on no job.
    """
    unshare(_OWN)
    mount("proc", "/proc", _NO_PROGRAMS)
    mount("tmpfs", _PLACE, _CAREFUL, f"mode=0700,size=1m,nr_inodes={_INODES}")
    for folder in _FOLDERS:
        os.mkdir(folder)
    os.chdir(_PLACE)
    return os.open(_PLACE, os.O_PATH | os.O_DIRECTORY)


@dataclass(frozen=True)
class Walls:
    """What the kernel holds a fold to, once its job is known."""

    program: bytes
    """The filter for system calls, compiled."""

    box_bytes: int
    processes: int

    def close(self) -> None:
        """The last step before other people's code: no way back."""
        remount(_PLACE, _CAREFUL, f"size={self.box_bytes},nr_inodes={_INODES}")
        own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
        _close_proc()
        unshare(Namespace.USER)
        _write("setgroups", "deny", own)
        _write("uid_map", f"{_USER} 0 1", own)
        _write("gid_map", f"{_USER} 0 1", own)
        os.close(own)
        # Counted in this user namespace: no other fold's processes are.
        most = self.processes + _SPARE_PROCESSES
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
        drop_capabilities()
        # The kernel forgets it whenever a process's rights change.
        signal_when_parent_dies(signal.SIGKILL)
        refuse_new_privileges()
        filter_system_calls(self.program)


def _close_proc() -> None:
    """A read-only /proc over the one that can be written to.

    There a fold could make the kernel forget its peak of memory (clear_refs), and change pid 1,
    which is the next fold's too.
    """
    bind("/proc", "/proc")
    make_read_only("/proc", _NO_PROGRAMS)


def _write(path: str, content: str, folder: int) -> None:
    descriptor = os.open(path, os.O_WRONLY, dir_fd=folder)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)
