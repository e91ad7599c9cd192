"""Calls what only a system's administrator, or an attack on the kernel, has a use for.

Every argument is -1: where the kernel listens it finds them wrong, and nothing happens. So only
two answers mean that it did not listen: not permitted, and no such call.
"""

import ctypes
import errno
import os

from attempts import attempt

# name: number on x86_64, on aarch64
CALLS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "unshare": (272, 97),
    "setns": (308, 268),
    "clone3": (435, 435),
    "sethostname": (170, 161),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "open_by_handle_at": (304, 265),
    "syslog": (103, 116),
    "memfd_create": (319, 279),
}
NOT_HEARD = (errno.EPERM, errno.ENOSYS)


def attack(X, y):
    column = {"x86_64": 0, "aarch64": 1}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    for name, numbers in CALLS.items():
        attempt(name, lambda number=numbers[column]: _heard(libc, number))
    attempt("a user namespace", lambda: _clones(libc, 0x10000000))
    attempt("a mount namespace", lambda: _clones(libc, 0x20000))


def _heard(libc, number):
    minus_one = [ctypes.c_long(-1)] * 5
    result = libc.syscall(ctypes.c_long(number), *minus_one)
    error = ctypes.get_errno()
    if result < 0 and error in NOT_HEARD:
        raise OSError(error, os.strerror(error))
    return f"the kernel listens: {result}, {os.strerror(error)}"


def _clones(libc, flag):
    """Where it is allowed, the child is a copy of this process, and ends at once."""
    number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    pid = libc.syscall(ctypes.c_long(number), ctypes.c_long(flag | 17), 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.waitpid(pid, 0)
    return pid
