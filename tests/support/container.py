"""What a container engine puts around a process, rebuilt from the kernel's own parts, by root.

A mount and a pid namespace, paths of /proc that are masked or read-only, an ordinary user, no
capability, no new privileges, a seccomp profile. Not a container's files: those are this machine's.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER = "10001"
"""The Dockerfile's."""

MASKED = ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "timer_list", "scsi")
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
"""Below /proc, as engines have them: https://github.com/moby/moby/blob/master/oci/defaults.go"""


def require_root() -> None:
    """Skip the test where a container cannot be rebuilt."""
    if os.geteuid() != 0:
        pytest.skip("only root can set up what a container engine sets up")


def contained(
    code: str, profile: Path, *, mask_proc: bool, arguments: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run lines of Python as in a container."""
    steps = ["set -e"]
    if mask_proc:
        for name in MASKED:
            steps.append(f"[ ! -d /proc/{name} ] || mount -t tmpfs -o ro tmpfs /proc/{name}")
            steps.append(f"[ ! -f /proc/{name} ] || mount --bind /dev/null /proc/{name}")
        for name in READ_ONLY:
            place = f"/proc/{name}"
            steps.append(f"[ ! -e {place} ] || mount --bind {place} {place}")
            steps.append(f"[ ! -e {place} ] || mount -o remount,bind,ro {place}")
    drop = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs"]
    drop += ["--bounding-set", "-all", "--inh-caps", "-all", "--"]
    python = [sys.executable, "-m", "tests.support.seccomp_profile", str(profile)]
    command = [*drop, *python, sys.executable, "-c", code, *arguments]
    steps.append("exec " + shlex.join(command))
    own = ("--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    return subprocess.run(
        ["unshare", *own, "--", "sh", "-c", "\n".join(steps)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
