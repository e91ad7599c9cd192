"""System calls of Linux that Python's standard library lacks."""

from __future__ import annotations

import ctypes
import os
import resource
from enum import IntFlag

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_CAPABILITIES_VERSION_3 = 0x20080522
_MS_REC_PRIVATE = 1 << 14 | 1 << 18
_MS_READ_ONLY = 1 << 0
_MS_REMOUNT = 1 << 5
_MS_BIND = 1 << 12

_MADV_COLLAPSE = 25

HUGE_PAGE = 2 << 20
"""Bytes, on x86-64 and most of ARM."""

_libc = ctypes.CDLL(None, use_errno=True)
_fork = ctypes.PyDLL(None, use_errno=True).fork
for _name in ("capset", "mount", "prctl", "unshare"):
    getattr(_libc, _name)  # looked up once: what is first used in a fold is looked up in each


def _last_capability() -> int:
    try:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return 40  # CAP_CHECKPOINT_RESTORE, the last one of Linux 5.9 to 6.x


_LAST_CAPABILITY = _last_capability()
"""Read once: a fold has no time for it."""


_OF_THIS_PROCESS = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


class Namespace(IntFlag):
    """What a process can have for itself. https://man7.org/linux/man-pages/man7/namespaces.7.html"""

    MOUNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


class MountOption(IntFlag):
    """What a mounted file system does not offer."""

    NO_SETUID = 1 << 1
    NO_DEVICES = 1 << 2
    NO_EXECUTION = 1 << 3


def plain_fork() -> int:
    """As `os.fork`, without what Python does around it; for a process that has one thread.

    Locks are made anew there, random numbers seeded, and modules' own functions called, which is
    for processes with several threads. Their code and data lie on 230 pages, each copied then.
    """
    pid: int = _fork()
    if pid < 0:
        _checked(pid, "fork")
    return pid


def unshare(namespaces: Namespace) -> None:
    """New namespaces for this process; a new pid namespace is for its children only."""
    _checked(_libc.unshare(int(namespaces)), "unshare", namespaces)


def mount(kind: str, target: str, options: MountOption, data: str = "") -> None:
    """Mount a new file system of a kind that needs no device."""
    flags = ctypes.c_ulong(options)
    done = _libc.mount(kind.encode(), target.encode(), kind.encode(), flags, data.encode())
    _checked(done, "mount on", target)


def remount(target: str, options: MountOption, data: str) -> None:
    """Change what a mounted file system allows."""
    flags = ctypes.c_ulong(int(options) | _MS_REMOUNT)
    _checked(_libc.mount(None, target.encode(), None, flags, data.encode()), "remount", target)


def make_read_only(target: str, options: MountOption) -> None:
    """Let nobody write through this mount any more; other mounts of the same are left alone."""
    flags = ctypes.c_ulong(int(options) | _MS_READ_ONLY | _MS_REMOUNT | _MS_BIND)
    _checked(_libc.mount(None, target.encode(), None, flags, None), "make read-only", target)


def keep_mounts_private() -> None:
    """From here on, what is mounted in one mount namespace is not seen in another."""
    flags = ctypes.c_ulong(_MS_REC_PRIVATE)
    _checked(_libc.mount(None, b"/", None, flags, None), "make mounts private")


def bind(source: str, target: str) -> None:
    """Show a folder or file at a second place, with what is mounted below it."""
    flags = ctypes.c_ulong(_MS_BIND | 1 << 14)  # MS_REC
    done = _libc.mount(source.encode(), target.encode(), None, flags, None)
    _checked(done, "bind", source)


def drop_capabilities() -> None:
    """Give up every capability, and the way to get one back."""
    drop = _libc.prctl
    for capability in range(_LAST_CAPABILITY + 1):
        _checked(drop(_PR_CAPBSET_DROP, capability, 0, 0, 0), "drop capability", capability)
    _checked(_libc.capset(_OF_THIS_PROCESS, _NO_CAPABILITIES), "drop capabilities")


def refuse_new_privileges() -> None:
    """No program that this process starts can have more rights than it has itself."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


class _FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_system_calls(program: bytes) -> None:
    """Have each system call judged by a BPF program, for good.

    libseccomp can load a filter only where it compiles it, which takes milliseconds; a fold loads
    one that is compiled already.
    """
    filter_program = _FilterProgram(len(program) // 8, program)
    done = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_program))
    _checked(done, "filter system calls")


def adopt_orphans() -> None:
    """Make this process the parent of every orphan among its descendants (a subreaper).

    So whatever a fold starts, a daemon in a session of its own too, stays a descendant of the
    process that watches the fold. https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_when_parent_dies(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def name_process(name: str) -> None:
    """What `ps`, `top` and the kernel's log call this process; at most 15 bytes are kept."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def flush_c_streams() -> None:
    """Write out what C code has buffered for stdout and stderr."""
    _libc.fflush(None)


def use_all_descriptors() -> None:
    """Allow this process as many open files as it may have.

    What others of the same user have sent and nobody has received counts against its limit when it
    sends descriptors (unix(7), ETOOMANYREFS): a fold, which may have fewer, must not reach the
    limit of its slot or its worker.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def collapse_into_huge_page(address: int) -> None:
    """Put the 2 MiB from `address`, a multiple of that, into one page, if the kernel likes.

    Refused (nothing is mapped there, an older kernel) it stays as it is.
    https://man7.org/linux/man-pages/man2/madvise.2.html
    """
    _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(HUGE_PAGE), _MADV_COLLAPSE)


def protect(begin: int, size: int, protection: int) -> None:
    """Set what this process may do with memory, PROT_READ and so on; refused, it stays as it is."""
    _libc.mprotect(ctypes.c_void_p(begin), ctypes.c_size_t(size), protection)


def cpu_clock(pid: int) -> int:
    """The id for `time.clock_gettime` of the CPU time of all threads of a process, in ns.

    The encoding of clock_getcpuclockid(3); /proc counts in ticks of 10 ms.
    """
    return (~pid << 3) | 2


def _prctl(option: int, argument: int | ctypes.c_char_p) -> None:
    _checked(_libc.prctl(option, argument, 0, 0, 0), "prctl", option)


def _checked(result: int, what: str, on: object = "") -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what} {on}: {os.strerror(error)}")
