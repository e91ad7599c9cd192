"""Looks for the files and the words of the submission that runs beside it."""

import glob
import os

from attempts import attempt

SECRET = b"the neighbour's " + b"idea"


def attack(X, y):
    own = os.environ["HOME"]
    attempt(
        "folders of other folds", lambda: set(glob.glob(own.rpartition("/")[0] + "/fold*")) - {own}
    )
    for process in filter(str.isdigit, os.listdir("/proc")):
        if int(process) == os.getpid():
            continue
        attempt(f"memory of process {process}", lambda process=process: _reads(process))
        attempt(f"folder of process {process}", lambda process=process: _lists(process))


def _reads(process):
    """Whether the secret is in the memory of a fold of the same kind."""
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb") as memory:
        if b"consumer.execution.zygote" not in open(f"/proc/{process}/cmdline", "rb").read():
            return False
        for line in maps.readlines():
            span, rights, *_ = line.split()
            start, end = (int(address, 16) for address in span.split("-"))
            if not rights.startswith("rw") or end - start > 1 << 26:
                continue
            memory.seek(start)
            try:
                if SECRET in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


def _lists(process):
    folder = os.readlink(f"/proc/{process}/cwd")
    if folder.startswith("/proc") or folder == os.getcwd():
        return []
    return [name for name in os.listdir(f"/proc/{process}/cwd") if name.endswith(".py")]
