"""What protects the host from a fold, and whether it does so here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer.sandbox.box import python_views

Facts = Mapping[str, Any]
"""What a fold has found out about itself (`examiner`)."""


@dataclass(frozen=True)
class Protection:
    """One of the walls around a fold."""

    name: str
    is_on: bool
    evidence: str
    """What was seen, in this run."""

    remedy: str
    """How to turn it on, where it is off."""

    is_required: bool = True
    """Whether level `strict` needs it; else something weaker stands in for it."""


@dataclass(frozen=True)
class _Check:
    name: str
    holds: Callable[[Facts], bool]
    evidence: Callable[[Facts], str]
    remedy: str
    is_required: bool = True


_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts")
_SHOWN = {"bin", "box", "code", "data", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc"}
_SHOWN |= {"sbin", "tmp", "usr"}
_SHOWN |= {Path(view.place).parts[1] for view in python_views()[1]}
_DEVICES = {"null", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr", "shm"}
_UNPRIVILEGED = "sysctl -w kernel.unprivileged_userns_clone=1, or, in a container, docs/security.md"
_CHANGED = "this is datarun's own doing and should never be off: please report it"


def protections(facts: Facts) -> tuple[Protection, ...]:
    """All of them, judged by what a fold has seen."""
    return tuple(
        Protection(
            check.name,
            check.holds(facts),
            check.evidence(facts),
            check.remedy,
            check.is_required,
        )
        for check in _CHECKS
    )


def _own_namespaces(facts: Facts) -> list[str]:
    return [
        name
        for name in _NAMESPACES
        if facts["namespaces"][name] != os.readlink(f"/proc/self/ns/{name}")
    ]


def _outside_uid(facts: Facts) -> int:
    return int(facts["uid_map"][1])


def _surplus(found: list[str], known: set[str]) -> list[str]:
    return sorted(set(found) - known)


_CHECKS = (
    _Check(
        "own user, without rights",
        lambda facts: facts["uid"] != 0 and "user" in _own_namespaces(facts),
        lambda facts: f"uid {facts['uid']} in a user namespace of its own",
        _UNPRIVILEGED,
    ),
    _Check(
        "no capabilities",
        lambda facts: all(int(value, 16) == 0 for value in facts["capabilities"].values()),
        lambda facts: ", ".join(f"{name} {value}" for name, value in facts["capabilities"].items()),
        _CHANGED,
    ),
    _Check(
        "no new privileges",
        lambda facts: facts["no_new_privileges"] == "1",
        lambda facts: f"NoNewPrivs {facts['no_new_privileges']}: setuid programs gain nothing",
        _CHANGED,
    ),
    _Check(
        "system-call filter",
        lambda facts: facts["seccomp"] == "2" and {facts["unshare"], facts["ptrace"]} == {"EPERM"},
        lambda facts: f"unshare: {facts['unshare']}, ptrace: {facts['ptrace']}",
        "apt-get install libseccomp2; the kernel needs CONFIG_SECCOMP_FILTER",
    ),
    _Check(
        "own namespaces",
        lambda facts: len(_own_namespaces(facts)) == len(_NAMESPACES),
        lambda facts: ", ".join(_own_namespaces(facts)),
        _UNPRIVILEGED,
    ),
    _Check(
        "no other process in sight",
        lambda facts: facts["pids"] == [1, facts["own_pid"]],
        lambda facts: f"pid 1 is a reaper; the fold is pid {facts['own_pid']}",
        "a container must not mask /proc: --security-opt systempaths=unconfined",
    ),
    _Check(
        "no network",
        lambda facts: facts["connect"] == "ENETUNREACH" and facts["netlink"] is not None,
        lambda facts: f"connect: {facts['connect']}, netlink: {facts['netlink']}",
        _UNPRIVILEGED,
    ),
    _Check(
        "system read-only",
        lambda facts: {facts["write_usr"], facts["write_root"]} <= {"EROFS", "EACCES"},
        lambda facts: f"writing to /usr: {facts['write_usr']}, to /: {facts['write_root']}",
        _CHANGED,
    ),
    _Check(
        "nothing else of the host's files",
        lambda facts: not _surplus(facts["top"], _SHOWN) and not _surplus(facts["dev"], _DEVICES),
        lambda facts: (
            f"surplus: {', '.join(surplus)}"
            if (surplus := _surplus(facts["top"], _SHOWN) + _surplus(facts["dev"], _DEVICES))
            else "no home folders, no cache, no sockets; /dev has only null and the like"
        ),
        _CHANGED,
    ),
    _Check(
        "own, limited file system",
        lambda facts: 0 < facts["box_bytes"] <= 1 << 40 and 0 < facts["box_files"] < 1 << 20,
        lambda facts: f"{facts['box_bytes'] >> 20} MiB in memory, {facts['box_files']} files",
        _CHANGED,
    ),
    _Check(
        "clean environment",
        lambda facts: not [name for name in facts["environment"] if name.startswith("DATARUN_")],
        lambda facts: f"{len(facts['environment'])} variables, none of the worker's settings",
        _CHANGED,
    ),
    _Check(
        "no descriptors but its own",
        # 3 is its socket; one more is open while it lists them.
        lambda facts: set(facts["descriptors"]) <= {0, 1, 2, 3, 4},
        lambda facts: f"{len(facts['descriptors']) - 1} open",
        _CHANGED,
    ),
    _Check(
        "resource limits",
        lambda facts: (
            facts["limits"]["CORE"] == 1
            and all(facts["limits"][name] > 0 for name in ("NPROC", "FSIZE", "NOFILE", "CPU"))
        ),
        lambda facts: (
            f"{facts['limits']['NPROC']} processes, {facts['limits']['NOFILE']} open files, "
            "no core dumps"
        ),
        _CHANGED,
    ),
    _Check(
        "the kernel's limit on memory and processes of all of a fold",
        lambda facts: set(facts["control_groups"]) == {"memory", "pids"},
        lambda facts: (
            f"control groups: {', '.join(facts['control_groups']) or 'none'}; "
            "what a fold uses is sampled, too"
        ),
        "without it a fold is sampled, and may go over its limits for some hundredths of a second; "
        "start the worker as root, or as a systemd service with Delegate=yes and "
        "DelegateSubgroup=worker, so that it may make control groups",
        is_required=False,
    ),
)
