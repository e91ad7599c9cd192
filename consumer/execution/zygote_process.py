"""The zygote's process: forks slots on request, and clears up behind them.

It holds no data, reads no payload and runs nobody's code; it has one thread.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from functools import partial
from typing import NoReturn

from consumer import packets
from consumer.execution.address_space import arrange
from consumer.execution.arenas import Room
from consumer.execution.fold_process import become_fold
from consumer.execution.process_tree import children, kill_descendants
from consumer.execution.slot_process import serve
from consumer.execution.warm import warm_controller
from consumer.sandbox.linux import (
    adopt_orphans,
    name_process,
    signal_when_parent_dies,
    use_all_descriptors,
)
from consumer.sandbox.seal import set_the_scene

_RETRY = 0.002


class _Zygote:
    """Forks slots on request, and clears up behind a slot that dies."""

    def __init__(self, control: socket.socket, program: bytes | None) -> None:
        self._control = control
        self._program = program
        self._controller = warm_controller()
        self._slots: dict[int, tuple[int, int]] = {}  # pid -> the worker's key, pidfd

    def run(self) -> NoReturn:
        """Until the worker closes its end, or dies."""
        packets.send(self._control, {"ready": os.getpid()})
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            for pid, (key, descriptor) in list(self._slots.items()):
                if descriptor in ready:
                    poll.unregister(descriptor)
                    self._bury(pid, key, descriptor)
            if self._control.fileno() in ready:
                poll.register(self._fork_slot(), select.POLLIN)

    def _fork_slot(self) -> int:
        try:
            packet, (descriptor,) = packets.receive(self._control)
        except EOFError:
            self._leave()
        pid = os.fork()
        if pid == 0:
            self._control.close()
            for _, pidfd in self._slots.values():
                os.close(pidfd)
            name_process(f"fold slot {packet['slot']}")
            become = partial(become_fold, controller=self._controller, program=self._program)
            serve(socket.socket(fileno=descriptor), become, strict=self._program is not None)
        os.close(descriptor)
        pidfd = os.pidfd_open(pid)
        self._slots[pid] = packet["key"], pidfd
        try:
            # Not its number, which is another one outside of this process's namespace.
            packets.send(self._control, {"started": packet["key"]}, (pidfd,))
        except OSError:  # the worker, if it lives, asks again
            os.kill(pid, signal.SIGKILL)
        return pidfd

    def _bury(self, pid: int, key: int, pidfd: int) -> None:
        """A slot is dead: what its fold left has become ours, and is killed."""
        os.close(pidfd)
        del self._slots[pid]
        self._clear()
        try:
            packets.send(self._control, {"gone": key})
        except OSError:
            self._leave()

    def _leave(self) -> NoReturn:
        for pid in self._slots:
            os.kill(pid, signal.SIGKILL)
        self._slots.clear()
        self._clear()
        os._exit(0)

    def _clear(self) -> None:
        """Kill and reap until the living slots, and their folds, are all that is left."""
        while True:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    continue
            except ChildProcessError:
                return
            strays = _kill_strays(frozenset(self._slots))
            if not strays:
                return
            time.sleep(_RETRY)


def _kill_strays(slots: frozenset[int]) -> int:
    """Kill all of this process's descendants but living slots and what is below them."""
    strays = [pid for pid in children(os.getpid()) if pid not in slots]
    for pid in strays:
        kill_descendants(pid)
        os.kill(pid, signal.SIGKILL)
    return len(strays)


def run_zygote(control: socket.socket, program: bytes | None, room: Room) -> NoReturn:
    """Until the worker closes its end of `control`, or dies.

    program: the filter for system calls at level `strict`. room: what all that has been imported
    fills; the rest is given back.
    """
    adopt_orphans()
    # As for a slot: whoever is stopped does not notice that the worker is gone.
    signal_when_parent_dies(signal.SIGCONT)
    name_process("fold zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_all_descriptors()
    zygote = _Zygote(control, program)
    set_the_scene()
    room.give_back()
    gc.collect()
    gc.disable()
    gc.freeze()
    arrange()
    zygote.run()
