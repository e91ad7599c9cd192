"""Orders and reports between the executor, the zygote and its slots: one JSON object a packet.

They travel over SOCK_SEQPACKET socket pairs, with open descriptors beside them, and never carry
anything of a job.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LARGEST = 4096
_DESCRIPTORS = 4

Packet = dict[str, Any]


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(connection: socket.socket, packet: Packet, descriptors: tuple[int, ...] = ()) -> None:
    """Send one packet. OSError when the other end is gone."""
    # A fold that has just been forked sends one with nothing in it, and has each page that this
    # touches copied.
    body = json.dumps(packet).encode() if packet else b"{}"
    if not descriptors:
        connection.send(body)
        return
    passed = struct.pack(f"{len(descriptors)}i", *descriptors)
    connection.sendmsg([body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])


def receive(connection: socket.socket) -> tuple[Packet, list[int]]:
    """The next packet and the descriptors that came with it. EOFError when the other end is gone.

    BlockingIOError on a non-blocking socket with nothing to read.
    """
    try:
        body, descriptors, _, _ = socket.recv_fds(connection, _LARGEST, _DESCRIPTORS)
    except ConnectionResetError:
        body, descriptors = b"", []
    if not body:
        raise EOFError("the other end is gone")
    return json.loads(body), descriptors
