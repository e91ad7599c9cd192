"""What a strictly isolated process sees of the host: the command line for bubblewrap.

Everything is prepared once, for the process that folds are forked from: read-only views of the
system and of Python, a minimal /dev, its own users, processes and network. A fold then covers /box
with a file system of its own (`namespaces`), where /tmp and /dev/shm point to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BOX = Path("/box")
"""All that can be written to."""

CODE = Path("/code")
"""Our packages."""

_PYTHON = Path("/python")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types")
"""What programs need to run."""

_DEVICES = ("null", "full", "random", "urandom")
"""Not zero: to map it is shared memory that is nobody's."""

_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    (str(BOX / "shm"), "/dev/shm"),
    (str(BOX / "tmp"), "/tmp"),
)
_PASSWD = b"submission:x:1000:1000::/box:/usr/sbin/nologin\n"
_GROUP = b"submission:x:1000:\n"


@dataclass(frozen=True)
class View:
    """A folder of the host, and where it is shown in the sandbox."""

    source: str
    place: str
    writable: bool = False


def python_views() -> tuple[str, tuple[View, ...]]:
    """The interpreter as it is called in the sandbox, and what it needs beside the system.

    A virtual environment works at any place, so it gets one of its own: it may lie below /tmp,
    which is covered in a fold. So do our packages, and nothing that lies beside them is shown.
    """
    ours = Path(__file__).resolve().parents[2]
    views = [View(str(ours / name), str(CODE / name)) for name in ("consumer", "schemas")]
    python = sys.executable
    if sys.prefix != sys.base_prefix:
        views.append(View(sys.prefix, str(_PYTHON)))
        python = str(_PYTHON / Path(python).relative_to(sys.prefix))
    for folder in {sys.base_prefix, sys.base_exec_prefix}:
        if not Path(folder).is_relative_to("/usr"):
            views.append(View(folder, folder))
    return python, tuple(views)


def bubblewrap(
    command: Sequence[str], views: Iterable[View], data: tuple[int, int]
) -> tuple[str, ...]:
    """The command line that runs `command` in the sandbox, as an ordinary user.

    data: descriptors to read /etc/passwd and /etc/group from (`user_files`).
    """
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    # Root over nothing but itself: to prepare the sandbox of each fold, which has none of it.
    words += ["--uid", "0", "--gid", "0", "--cap-add", "ALL", "--hostname", "fold"]
    for folder in _SYSTEM:
        if os.path.islink(folder):
            words += ["--symlink", os.readlink(folder), folder]
        else:
            words += ["--ro-bind-try", folder, folder]
    for name in _ETC:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for descriptor, name in zip(data, ("passwd", "group"), strict=True):
        words += ["--ro-bind-data", str(descriptor), f"/etc/{name}"]
    words += ["--setenv", "PYTHONPATH", str(CODE)]
    words += ["--proc", "/proc", "--dir", "/dev"]
    for name in _DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for target, link in _LINKS:
        words += ["--symlink", target, link]
    words += ["--tmpfs", str(BOX), "--dir", str(BOX / "tmp"), "--dir", str(BOX / "shm")]
    for view in views:
        words += ["--bind" if view.writable else "--ro-bind", view.source, view.place]
    words += ["--chdir", str(BOX), "--remount-ro", "/", "--", *command]
    return tuple(words)


def user_files() -> tuple[int, int]:
    """Two descriptors, of an /etc/passwd and an /etc/group with the only user that there is."""
    passwd, group = (os.memfd_create(name) for name in ("passwd", "group"))
    for descriptor, content in ((passwd, _PASSWD), (group, _GROUP)):
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
    return passwd, group
