"""A worker's scratch folder, and removing what was left: by killed workers, and by folds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consumer.folder_lock import FolderLock

_LOCK = ".lock"


@contextmanager
def scratch_folder(parent: Path, worker: str) -> Iterator[Path]:
    """A new folder for this worker below `parent`, deleted at the end.

    Its lock is held meanwhile; the kernel gives it back when the worker is killed, and the next
    worker that starts here deletes the folder.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for path in parent.glob(f"*{_LOCK}"):
        lock = FolderLock(path)
        if lock.acquire(exclusive=True):
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            lock.release(remove=True)
    lock = FolderLock(parent / f"{worker}{_LOCK}")
    lock.acquire(exclusive=True)
    folder = parent / worker
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release(remove=True)


def remove_tree(folder: Path) -> None:
    """Remove a fold's files, also where its code took away the permission to."""

    def permit(function: Any, path: str, _: object) -> None:
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
        if function in (os.rmdir, os.unlink):
            function(path)

    if folder.exists():
        shutil.rmtree(folder, onerror=permit)
