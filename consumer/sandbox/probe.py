"""Takes every step of the strict sandbox once, and says which one the host does not allow.

`python -m consumer.sandbox.probe FD FILTER`, started as a zygote is; imports nothing large, so that
asking costs a tenth of a second.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from consumer import packets
from consumer.sandbox import namespaces
from consumer.sandbox.namespaces import Walls
from consumer.sandbox.reaper import Reaper
from consumer.sandbox.syscall_filter import filter_program


def main() -> NoReturn:
    """Sends one packet: `obstacle`, a sentence or None."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    program = filter_program(sys.argv)
    try:
        reaper = Reaper()
        if (child := os.fork()) == 0:
            _seal(connection, program or b"")
        os.waitpid(child, 0)
        reaper.clear(lambda: None)
    except OSError as error:
        packets.send(connection, {"obstacle": str(error)})
    os._exit(0)


def _seal(connection: socket.socket, program: bytes) -> NoReturn:
    obstacle = None
    try:
        namespaces.enter()
        Walls(program, box_bytes=1 << 20, processes=16).close()
    except OSError as error:
        obstacle = str(error)
    packets.send(connection, {"obstacle": obstacle})
    os._exit(0)


if __name__ == "__main__":
    main()
