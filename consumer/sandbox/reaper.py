"""Pid 1 of a slot's own pid namespace: reaps orphans, and kills all that a fold has left.

User code must not be pid 1: signals and accounting go wrong there. A slot keeps one namespace; it
is empty between two folds, since what is forked while pid 1 kills everything is killed too
(kill(2): -1 signals every process of the namespace but pid 1, in one go).
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import NoReturn

from consumer import packets
from consumer.sandbox.linux import Namespace, name_process, signal_when_parent_dies, unshare

_CONTROL = 3
_STEP_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0
"""A process of many gigabytes takes a while to give them back. No fold can stop pid 1."""


class Reaper:
    """The slot's end. From its making on, all children of the slot are in the namespace."""

    def __init__(self) -> None:
        """Network and processes of this slot's own; the loopback device stays down."""
        unshare(Namespace.NET | Namespace.PID)
        self._control, theirs = packets.socket_pair()
        self._control.settimeout(_STEP_SECONDS)
        self.pid = os.fork()
        if self.pid == 0:
            self._control.close()
            _become_pid_1(theirs)
        theirs.close()

    def clear(self, while_waiting: Callable[[], None]) -> float:
        """Returns when no process is left but pid 1: CPU seconds of all that it has reaped.

        while_waiting: called once a second. OSError or EOFError when there is no answer: then the
        slot has to end, and take it along.
        """
        packets.send(self._control, {"do": "clear"})
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                packet, _ = packets.receive(self._control)
            except TimeoutError:
                if time.monotonic() > until:
                    raise
                while_waiting()
            else:
                return float(packet["cpu"])


def _become_pid_1(control: socket.socket) -> NoReturn:
    signal_when_parent_dies(signal.SIGKILL)
    name_process("fold reaper")
    # Nothing of the slot's stays open here: the worker must see when that ends.
    os.dup2(control.detach(), _CONTROL)
    os.closerange(_CONTROL + 1, 1 << 16)
    control = socket.socket(fileno=_CONTROL)
    cpu = 0.0

    def reap(options: int) -> bool:
        """Whether a child was reaped; ChildProcessError when there is none."""
        nonlocal cpu
        pid, _, usage = os.wait4(-1, options)
        cpu += usage.ru_utime + usage.ru_stime
        return pid != 0

    def on_child(*_: object) -> None:
        try:
            while reap(os.WNOHANG):
                continue
        except ChildProcessError:
            return

    while True:
        signal.signal(signal.SIGCHLD, on_child)
        try:
            packets.receive(control)
        except (EOFError, OSError):
            os._exit(0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            os.kill(-1, signal.SIGKILL)
            while True:
                reap(0)
        except (ProcessLookupError, ChildProcessError):
            pass
        packets.send(control, {"cpu": cpu})
        cpu = 0.0
