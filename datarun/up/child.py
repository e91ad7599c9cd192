"""`python -m datarun.up.child PARENT COMMAND...`: a `datarun` command that dies with its parent.

The kernel kills it when the supervisor ends, however that ends: a service without a supervisor
would hold queues, ports and the database of a stack that nobody can stop any more.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int, number: signal.Signals) -> None:
    """Be sent signal `number` when process `parent`, which started this one, ends (man 2 prctl).

    The signal comes when the *thread* that started us ends, so supervisors start services from
    their main thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it had ended before
        os.kill(os.getpid(), number)


if __name__ == "__main__":
    die_with(int(sys.argv.pop(1)), signal.SIGKILL)
    sys.argv[0] = "datarun"
    from datarun.cli.entry import main

    main()
