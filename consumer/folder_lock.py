"""A lock file beside a cached version: shared while it is used, exclusive to write or delete it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FolderLock:
    """`flock` on a file of its own, seen by every process that shares the cache's folder.

    The kernel releases it when the process dies, whatever it dies of.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, *, exclusive: bool) -> bool:
        """Take the lock if that is possible at once; False when another process is in the way."""
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                current = os.stat(self._path).st_ino == os.fstat(fd).st_ino
            except (BlockingIOError, FileNotFoundError) as error:
                os.close(fd)
                if isinstance(error, BlockingIOError):
                    return False
                continue
            if current:
                self._fd = fd
                return True
            # Deleted and made anew between open and flock: the lock of a file nobody sees.
            os.close(fd)

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back. remove: delete its file too, which needs the exclusive lock."""
        if self._fd is None:
            return
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = None
