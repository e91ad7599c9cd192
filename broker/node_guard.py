"""The process between a private RabbitMQ node and whoever started it: no node outlives its owner.

Run as `python -I -S node_guard.py OWNER_PID GRACE EPMD NODE`, where EPMD and NODE are commands as
JSON lists. It starts both, writes their pids as one line of JSON, and waits for whichever comes
first: the owner ends (killed or not), a SIGTERM, or the node ends by itself. Then it stops what is
left, the node cleanly, and exits with 0 if it was asked to, else with 1.

A process of its own, because PR_SET_PDEATHSIG alone would fire when the *thread* that forked the
node ends (man 2 prctl), and because a pipe to the owner stays open in every child that the owner
has forked. A pidfd has neither fault. Imports nothing but the standard library: it starts at once.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time

OPEN_FILES = 65536
"""Enough for 30,000 streams. Not the hard limit itself, which can be 2**30 in a container: Erlang
closes every possible descriptor, one by one, whenever it starts a program."""

PORT_TAKEN = 3
"""Exit status when epmd could not listen on its port."""


def raise_open_files_limit() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def start(command: list[str], inherited: list[int]) -> subprocess.Popen[bytes]:
    """Start a child that is told to end, by the kernel, should the guard itself be killed."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # the node's start-up log
        pass_fds=inherited,
    )


def listens(port: int, epmd: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait until epmd listens on `port`; false if it ended instead (the port was taken)."""
    deadline = time.monotonic() + seconds
    while epmd.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            # Another node's epmd may have answered, while ours is about to find the port taken.
            time.sleep(0.02)
            return epmd.poll() is None
    return False


def stop(child: subprocess.Popen[bytes], grace: float) -> None:
    """Ask `child` to end, wait `grace` seconds for it, then kill it."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def main(arguments: list[str]) -> int:
    owner, grace = int(arguments[0]), float(arguments[1])
    epmd_command: list[str] = json.loads(arguments[2])
    node_command: list[str] = json.loads(arguments[3])

    asked, asked_in = os.pipe()
    for end in (asked, asked_in):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(asked_in)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)

    try:
        owner_ended = os.pidfd_open(owner)
    except ProcessLookupError:
        return 0
    if os.getppid() != owner:  # it ended meanwhile, and the number may already be another's
        return 0

    raise_open_files_limit()
    # The lock on the node's folder is held for as long as any of the three processes lives.
    lock = int(os.environ.pop("DATARUN_NODE_LOCK_FD"))

    epmd = start(epmd_command, [lock])
    node = None
    try:
        if not listens(int(os.environ["ERL_EPMD_PORT"]), epmd, seconds=10):
            return PORT_TAKEN
        node = start(node_command, [lock])
        print(json.dumps({"node": node.pid, "epmd": epmd.pid}), flush=True)
        node_ended = os.pidfd_open(node.pid)
        ready, _, _ = select.select([owner_ended, node_ended, asked], [], [])
        return 1 if node_ended in ready and asked not in ready else 0
    finally:
        if node is not None:
            stop(node, grace)
        stop(epmd, 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
