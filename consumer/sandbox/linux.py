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
_MS_REMOUNT = 1 << 5
_MS_BIND = 1 << 12

_MADV_COLLAPSE = 25
_HUGE = 2 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def _last_capability() -> int:
    try:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return 40  # CAP_CHECKPOINT_RESTORE, the last one of Linux 5.9 to 6.x


_LAST_CAPABILITY = _last_capability()
"""Read once: a fold has no time for it."""


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

    READ_ONLY = 1 << 0
    NO_SETUID = 1 << 1
    NO_DEVICES = 1 << 2
    NO_EXECUTION = 1 << 3


def unshare(namespaces: Namespace) -> None:
    """New namespaces for this process; a new pid namespace is for its children only."""
    _checked(_libc.unshare(int(namespaces)), f"unshare {namespaces!r}")


def mount(kind: str, target: str, options: MountOption, data: str = "") -> None:
    """Mount a new file system of a kind that needs no device."""
    flags = ctypes.c_ulong(options)
    done = _libc.mount(kind.encode(), target.encode(), kind.encode(), flags, data.encode())
    _checked(done, f"mount {kind} on {target}")


def remount(target: str, options: MountOption, data: str) -> None:
    """Change what a mounted file system allows."""
    flags = ctypes.c_ulong(options | _MS_REMOUNT)
    _checked(_libc.mount(None, target.encode(), None, flags, data.encode()), f"remount {target}")


def make_read_only(target: str, options: MountOption) -> None:
    """Let nobody write through this mount any more; other mounts of the same are left alone."""
    flags = ctypes.c_ulong(options | MountOption.READ_ONLY | _MS_REMOUNT | _MS_BIND)
    _checked(_libc.mount(None, target.encode(), None, flags, None), f"make {target} read-only")


def keep_mounts_private() -> None:
    """From here on, what is mounted in one mount namespace is not seen in another."""
    flags = ctypes.c_ulong(_MS_REC_PRIVATE)
    _checked(_libc.mount(None, b"/", None, flags, None), "make mounts private")


def bind(source: str, target: str) -> None:
    """Show a folder or file at a second place, with what is mounted below it."""
    flags = ctypes.c_ulong(_MS_BIND | 1 << 14)  # MS_REC
    done = _libc.mount(source.encode(), target.encode(), None, flags, None)
    _checked(done, f"bind {source}")


def drop_capabilities() -> None:
    """Give up every capability, and the way to get one back."""
    for capability in range(_LAST_CAPABILITY + 1):
        _prctl(_PR_CAPBSET_DROP, capability)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, none), "drop capabilities")


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


def use_huge_pages() -> None:
    """Put this process's own memory into huge pages, as far as the kernel likes.

    A fork copies the page tables: with an entry for each 2 MiB instead of each 4 KiB, forking a
    process of 170 MB and letting the child end takes half the time. Only what is there now is
    moved; the allocator is left alone. https://man7.org/linux/man-pages/man2/madvise.2.html
    """
    with open("/proc/self/maps", encoding="utf-8") as maps:
        mappings = [line.split() for line in maps]
    for span, rights, *_, name in (
        fields if len(fields) > 5 else [*fields, ""] for fields in mappings
    ):
        if not rights.startswith("rw-p") or name not in ("", "[heap]"):
            continue
        begin, end = (int(address, 16) for address in span.split("-"))
        for address in range(-(-begin // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE):
            # Refused (no such page, an older kernel) it stays as it is.
            _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(_HUGE), _MADV_COLLAPSE)


def cpu_clock(pid: int) -> int:
    """The id for `time.clock_gettime` of the CPU time of all threads of a process, in ns.

    The encoding of clock_getcpuclockid(3); /proc counts in ticks of 10 ms.
    """
    return (~pid << 3) | 2


def _prctl(option: int, argument: int | ctypes.c_char_p) -> None:
    _checked(_libc.prctl(option, argument, 0, 0, 0), f"prctl({option})")


def _checked(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
