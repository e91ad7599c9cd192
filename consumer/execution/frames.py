"""Frames between a fold and its worker: one byte of kind, eight of length, then the payload."""

from __future__ import annotations

import socket
import struct
from enum import IntEnum

HEADER = struct.Struct(">BQ")
BEGIN = struct.Struct(">dd")
"""Payload of BEGUN: the monotonic clock and the CPU seconds used, before any user code ran."""

GO = b"g"
"""What the worker answers to TRAINED and VALIDATED, once it has measured."""


class FrameKind(IntEnum):
    """What a frame says."""

    JOB = 1
    """To the fold: a pickled FoldTask."""

    BEGUN = 2
    """From the fold: its process is ready, and user code comes next."""

    TRAINED = 3
    """`fit` returned. The fold waits for GO."""

    VALIDATED = 4
    """Predictions of all training rows as npy. The fold waits for GO."""

    TESTED = 5
    """Predictions of the test rows as npy. The fold waits to be killed."""

    FAILED = 6
    """A Failure as JSON. The fold waits to be killed."""

    PREPARED = 7
    """From a process that prepares a data set: what it wrote, as JSON."""


class FrameError(Exception):
    """Bytes from a fold that are no frame of ours, or too many of them."""


def receive_exactly(connection: socket.socket, size: int) -> bytearray:
    """Block until `size` bytes have come. EOFError when the other end is gone before."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise EOFError("the other end closed the connection")
        view = view[count:]
    return data
