"""Reads and steers every other process in sight: parent, siblings, pid 1."""

import ctypes
import os
import signal

from attempts import attempt

PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def attack(X, y):
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    others = [pid for pid in pids if pid != os.getpid()]
    # Its own pid 1 is no secret; anybody else is.
    attempt("processes of others", lambda: [pid for pid in others if pid != 1])
    # Where nothing is kept from it there may be hundreds: those nearest to it are enough.
    nearest = {1, os.getppid(), *sorted(others, key=lambda pid: abs(pid - os.getpid()))[:8]}
    for pid in nearest & set(others):
        for what, take in (
            ("ptrace", lambda pid=pid: _checked(libc.ptrace(PTRACE_SEIZE, pid, 0, 0)) == 0),
            ("process_vm_readv", lambda pid=pid: _reads(pid)),
            ("memory", lambda pid=pid: bool(open(f"/proc/{pid}/mem", "rb"))),
            ("maps", lambda pid=pid: open(f"/proc/{pid}/maps").read(100)),
            ("files", lambda pid=pid: os.listdir(f"/proc/{pid}/fd")),
            ("root", lambda pid=pid: os.listdir(f"/proc/{pid}/root/")),
            ("a descriptor", lambda pid=pid: _takes_descriptor(pid)),
            ("oom_score_adj", lambda pid=pid: bool(open(f"/proc/{pid}/oom_score_adj", "w"))),
            ("clear_refs", lambda pid=pid: bool(open(f"/proc/{pid}/clear_refs", "w"))),
        ):
            attempt(f"{what} of process {pid}", take)
    attempt("its parent", lambda: os.getppid() and os.kill(os.getppid(), signal.SIG_DFL) is None)


def _checked(result):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _reads(pid):
    """All forks of one process have this object at this address."""
    target = ctypes.create_string_buffer(8)
    local, remote = _Vector(ctypes.addressof(target), 8), _Vector(id(None), 8)
    arguments = (pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    return _checked(libc.process_vm_readv(*arguments))


def _takes_descriptor(pid):
    pidfd = os.pidfd_open(pid)
    return _checked(libc.syscall(438, pidfd, 0, 0)) >= 0  # pidfd_getfd
