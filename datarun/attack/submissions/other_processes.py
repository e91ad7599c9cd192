"""Reads and steers every other process in sight: parent, siblings, pid 1."""

import ctypes
import os
import resource

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
            ("open files", lambda pid=pid: _links(pid)),
            ("root", lambda pid=pid: os.listdir(f"/proc/{pid}/root/")),
            ("a descriptor", lambda pid=pid: _takes_descriptor(pid)),
            ("oom_score_adj", lambda pid=pid: bool(open(f"/proc/{pid}/oom_score_adj", "w"))),
            ("clear_refs", lambda pid=pid: bool(open(f"/proc/{pid}/clear_refs", "w"))),
            # What is set is what was set: nothing changes where it is allowed.
            ("priority", lambda pid=pid: _sets_priority(os.PRIO_PROCESS, pid)),
            ("processors", lambda pid=pid: _sets_processors(pid)),
            ("limits", lambda pid=pid: _sets_limits(pid)),
            ("scheduling", lambda pid=pid: _sets_scheduling(pid)),
        ):
            attempt(f"{what} of process {pid}", take)
    attempt("priority of its user", lambda: _sets_priority(os.PRIO_USER, os.getuid()))
    attempt("its parent", lambda: os.getppid() and os.kill(os.getppid(), 0) is None)


def _links(pid):
    return [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]


def _sets_priority(which, who):
    os.setpriority(which, who, os.getpriority(which, who))
    return True


def _sets_processors(pid):
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))
    return True


def _sets_limits(pid):
    resource.prlimit(pid, resource.RLIMIT_CPU, resource.prlimit(pid, resource.RLIMIT_CPU))
    return True


def _sets_scheduling(pid):
    os.sched_setscheduler(pid, os.sched_getscheduler(pid), os.sched_getparam(pid))
    return True


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
