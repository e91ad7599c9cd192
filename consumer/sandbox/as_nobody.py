"""Starts a sandbox from root as a user who owns nothing. `python -m consumer.sandbox.as_nobody`

    ... as_nobody N SOURCE_1 ... SOURCE_N COMMAND...

Folders that only root can reach (a Python below /root, a worker's own files) are shown to that user
at STAGING/0, STAGING/1 and so on, in a mount namespace that ends with the command.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from consumer.sandbox.linux import MountOption, Namespace, bind, keep_mounts_private, mount, unshare

NOBODY = 64001
"""User and group: an id between those of people and those that systemd hands out."""

STAGING = "/tmp"
"""Any folder that is always there: what is in it is hidden from the command only."""


def main() -> NoReturn:
    """Becomes the command."""
    count = int(sys.argv[1])
    sources, command = sys.argv[2 : 2 + count], sys.argv[2 + count :]
    unshare(Namespace.MOUNT)
    keep_mounts_private()
    # Opened before STAGING hides what may be below it.
    opened = [os.open(source, os.O_PATH) for source in sources]
    mount("tmpfs", STAGING, MountOption.NO_SETUID | MountOption.NO_DEVICES, "mode=0755")
    for number, descriptor in enumerate(opened):
        place = f"{STAGING}/{number}"
        os.mkdir(place)
        bind(f"/proc/self/fd/{descriptor}", place)
        os.close(descriptor)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
