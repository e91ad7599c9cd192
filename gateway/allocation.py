"""How the C library hands out memory."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 20


def return_large_blocks() -> None:
    """Give blocks of more than 1 MiB back to the system when they are freed.

    glibc would raise its threshold to the size of what was freed, up to 32 MiB, and then keep such
    blocks for each thread that has had one: https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
