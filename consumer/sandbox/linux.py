"""System calls of Linux that Python's standard library lacks."""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_MADV_COLLAPSE = 25
_HUGE = 2 << 20

_libc = ctypes.CDLL(None, use_errno=True)


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
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
