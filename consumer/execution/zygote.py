"""The zygote: a clean, warm process that slots are forked from.

`python -m consumer.execution.zygote FD [FILTER]`: FD is the worker's socket; FILTER, at level
`strict`, a file with the filter for system calls.
"""

from __future__ import annotations

import socket
import sys
from typing import NoReturn

from consumer.execution.arenas import Room


def main() -> NoReturn:
    """The worker passes its socket's descriptor as the argument."""
    room = Room()
    # Not at the top: what they import, scikit-learn among it, goes into that room.
    from consumer.execution.zygote_process import run_zygote
    from consumer.sandbox.syscall_filter import filter_program

    run_zygote(socket.socket(fileno=int(sys.argv[1])), filter_program(sys.argv), room)


if __name__ == "__main__":
    main()
