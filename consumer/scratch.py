"""A worker's scratch folder, and removing what was left: by killed workers, and by folds."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from consumer.folder_lock import FolderLock

_LOCK = ".lock"


@contextlib.contextmanager
def scratch_folder(parent: Path, worker: str) -> Iterator[Path]:
    """A new folder for this worker below `parent`, deleted at the end.

    Its lock is held meanwhile; the kernel gives it back when the worker is killed, and the next
    worker that starts here deletes the folder.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for path in parent.glob(f"*{_LOCK}"):
        lock = FolderLock(path)
        if lock.acquire(exclusive=True):
            with contextlib.suppress(OSError):
                remove_tree(path.with_suffix(""))
            lock.release(remove=True)
    lock = FolderLock(parent / f"{worker}{_LOCK}")
    lock.acquire(exclusive=True)
    folder = parent / worker
    folder.mkdir()
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            remove_tree(folder)
        lock.release(remove=True)


def remove_tree(folder: Path, within: float = math.inf) -> bool:
    """Remove a fold's files, also where its code took away the permission to, or its own folder.

    Returns whether nothing is left after `within` seconds. OSError when something has to stay.
    """
    deadline = time.monotonic() + within
    return all(time.monotonic() < deadline for _ in _removed(folder))


def _removed(folder: Path) -> Iterator[None]:
    """Yields after each step of the removal.

    A folder that lies deeper is moved up first. So no depth is too deep, be it for the stack, for
    open files or for the length of a path; and no list of a million names is kept.
    """
    removes_something = True
    while removes_something and _is_folder(folder):
        removes_something = False
        folder.chmod(0o700)
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from _emptied(entry.path, folder)
            with contextlib.suppress(OSError):
                _remove(entry)
                removes_something = True
            yield
        with contextlib.suppress(OSError):
            folder.rmdir()
    if _is_folder(folder):
        folder.rmdir()
    else:
        folder.unlink(missing_ok=True)


def _emptied(path: str, top: Path) -> Iterator[None]:
    """Remove the files of a folder, and move its folders to `top`."""
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
        for entry in _entries(path):
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)
                    os.rename(entry.path, top / f"moved-{secrets.token_hex(16)}")
                else:
                    os.unlink(entry.path)
            yield


def _entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        os.rmdir(entry.path)
    else:
        os.unlink(entry.path)


def _is_folder(path: Path) -> bool:
    """And no link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
