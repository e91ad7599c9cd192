"""Reads what lies on the host's disks, and writes there."""

import os

from attempts import attempt


def attack(X, y):
    for path in ("/etc/shadow", "/etc/gshadow", "/etc/machine-id", "/etc/hostname"):
        attempt(path, lambda path=path: open(path).read())
    attempt("users of the host", lambda: "root:" in open("/etc/passwd").read())
    for folder in ("/root", "/home", "/var/lib", "/var/log", "/run", "/boot", "/sys", "/mnt"):
        attempt(folder, lambda folder=folder: os.listdir(folder))
    # Its own folder is /box here, and devices that hold nothing are no secret.
    devices = {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "shm",
    }
    attempt("devices", lambda: set(os.listdir("/dev")) - devices)
    attempt("kernel log", lambda: open("/dev/kmsg", "rb").read(1))
    attempt("kernel memory", lambda: open("/proc/kcore", "rb").read(1))
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/vm/drop_caches",
    ):
        attempt(f"{path}, to write", lambda path=path: open(path, "w"))
    for folder in ("/", "/usr/lib", "/etc", "/bin", os.path.dirname(os.__file__)):
        name = os.path.join(folder, "datarun-attack")
        attempt(f"{folder}, to write", lambda name=name: _writes(name))
    for path in ("/proc/1/root/root", "/proc/1/root/home", "/proc/1/cwd/.."):
        attempt(path, lambda path=path: os.listdir(path))
    attempt("root", lambda: os.setuid(0) or os.seteuid(0) or "uid 0")
    attempt("capabilities", _capabilities)


def _writes(name):
    with open(name, "w"):
        pass
    os.unlink(name)
    return name


def _capabilities():
    """Those that it has, or could get."""
    lines = open("/proc/self/status").read().splitlines()
    return [line for line in lines if line.startswith("Cap") and int(line.split()[1], 16)]
