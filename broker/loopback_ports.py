"""Ports on the loopback interface that nobody listens on at this moment."""

from __future__ import annotations

import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As Erlang's listeners do: a port whose old connections linger in TIME_WAIT is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
            # Binding alone succeeds next to another socket that has bound and not yet listens.
            listener.listen()
        except OSError:
            return False
    return True


def free_ports(count: int, *, avoid: Iterable[int] = ()) -> list[int]:
    """`count` different free ports, none of them in `avoid`.

    Nothing holds them: somebody else may take one before the caller does.
    """
    avoided = set(avoid)
    held: list[socket.socket] = []
    ports: list[int] = []
    try:
        # Held until all are found, or the system would hand out the same one twice.
        while len(ports) < count:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.append(listener)
            listener.bind((LOOPBACK, 0))
            port: int = listener.getsockname()[1]
            if port not in avoided:
                ports.append(port)
    finally:
        for listener in held:
            listener.close()
    return ports
