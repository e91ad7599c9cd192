"""The system calls that a fold may not make, compiled by libseccomp.

A list of what is denied: a list of what is allowed would have to know every library that a
submission may import. It denies what no estimator needs and what attacks on kernels begin with.
"""

from __future__ import annotations

import errno
import os
from functools import cache

_NOT_PERMITTED = (
    # other processes
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "pidfd_getfd",
    "kcmp",
    # keys, which outlive a process
    "keyctl",
    "add_key",
    "request_key",
    # the kernel's own machinery
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "lookup_dcookie",
    "syslog",
    "acct",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "query_module",
    "get_kernel_syms",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "iopl",
    "ioperm",
    "modify_ldt",
    "vm86",
    "vm86old",
    # the view of the file system
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "open_by_handle_at",
    "name_to_handle_at",
    "fanotify_init",
    "quotactl",
    "quotactl_fd",
    # namespaces
    "unshare",
    "setns",
    "sethostname",
    "setdomainname",
    # the clock
    "clock_settime",
    "clock_settime64",
    "clock_adjtime",
    "clock_adjtime64",
    "settimeofday",
    "adjtimex",
    "stime",
    # pages of others, terminals
    "move_pages",
    "migrate_pages",
    "vhangup",
)

_NOT_THERE = (
    # glibc and others fall back to what is filtered by its arguments
    "clone3",
    # work that the kernel would do past the filter
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    # memory that belongs to no process and to no file of the fold's own tmpfs
    "memfd_create",
    "memfd_secret",
    "shmget",
    "msgget",
)

_CLONE_PARENT = 0x8000
"""A child that is the slot's own, and not in its reaper's care."""

_NEW_NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_REAPER = 1
_ABOUT_A_PROCESS = (
    "prlimit64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
)
"""Their first argument is a pid."""

_INT = 0xFFFFFFFF
"""What the kernel looks at of an argument of 64 bits that is an int."""

_SHARED_NAMELESS = 0x21  # MAP_SHARED | MAP_ANONYMOUS
_UNIX = 1
_UDP = 17
_INET6 = 10
_INET = 2
_OPTIMIZE = 8
_BINARY_TREE = 2
_UNKNOWN = -1


@cache
def compiled_filter() -> bytes:
    """The BPF program for this machine. OSError when libseccomp is not there."""
    import pyseccomp  # type: ignore[import-untyped]

    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    program.set_attr(_OPTIMIZE, _BINARY_TREE)

    def deny(name: str, error: int, *conditions: object) -> None:
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        if number != _UNKNOWN:
            program.add_rule(pyseccomp.ERRNO(error), number, *conditions)

    for name in _NOT_PERMITTED:
        deny(name, errno.EPERM)
    for name in _NOT_THERE:
        deny(name, errno.ENOSYS)
    for flag in (_CLONE_PARENT, *_NEW_NAMESPACES):
        deny("clone", errno.EPERM, pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    for request in _TERMINAL_INPUT:
        low = pyseccomp.Arg(1, pyseccomp.MASKED_EQ, _INT, request)
        deny("ioctl", errno.EPERM, low)
    # Pid 1 is of the same user, and outlives the fold: what limits it harms the next one.
    for name in _ABOUT_A_PROCESS:
        deny(name, errno.EPERM, pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _INT, _REAPER))
    # Netlink, vsock, packet and the like are ways into the kernel, and past a network namespace.
    for family in range(_INET + 1, _INET6):
        deny("socket", errno.EAFNOSUPPORT, pyseccomp.Arg(0, pyseccomp.EQ, family))
    deny("socket", errno.EAFNOSUPPORT, pyseccomp.Arg(0, pyseccomp.GT, _INET6))
    deny("socketpair", errno.EAFNOSUPPORT, pyseccomp.Arg(0, pyseccomp.GT, _UNIX))
    # A protocol that is not there yet is a kernel module, which would be loaded.
    for family in (_INET, _INET6):
        of_family = pyseccomp.Arg(0, pyseccomp.EQ, family)
        deny("socket", errno.EPROTONOSUPPORT, of_family, pyseccomp.Arg(2, pyseccomp.GT, _UDP))
    # Pages of shared memory without a file are nobody's once they are unmapped.
    nameless = pyseccomp.Arg(3, pyseccomp.MASKED_EQ, _SHARED_NAMELESS, _SHARED_NAMELESS)
    deny("mmap", errno.EPERM, nameless)
    with os.fdopen(os.memfd_create("filter"), "w+b") as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


def filter_program(arguments: list[str]) -> bytes | None:
    """The filter for system calls that a clean process was given; None below level `strict`."""
    if len(arguments) < 3:
        return None
    with open(int(arguments[2]), "rb") as file:
        return file.read()
