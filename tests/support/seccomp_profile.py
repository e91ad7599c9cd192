"""Runs a command under a seccomp profile in Docker's format, as a container engine would.

python -m tests.support.seccomp_profile PROFILE COMMAND...

Without capabilities, on this machine's architecture; for a command that is 64 bits wide.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, NoReturn

import pyseccomp

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
COMPARISONS = {
    "SCMP_CMP_NE": pyseccomp.NE,
    "SCMP_CMP_EQ": pyseccomp.EQ,
    "SCMP_CMP_MASKED_EQ": pyseccomp.MASKED_EQ,
}
_UNKNOWN = -1


def main() -> NoReturn:
    """Becomes the command."""
    profile, *command = sys.argv[1:]
    program(json.loads(Path(profile).read_text(encoding="utf-8"))).load()
    os.execvp(command[0], command)


def program(profile: dict[str, Any]) -> pyseccomp.SyscallFilter:
    """Compiled; the meaning of the fields is that of the engine that defined them.

    https://docs.docker.com/engine/security/seccomp/
    """
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    default = pyseccomp.ERRNO(profile.get("defaultErrnoRet", 1))
    made = pyseccomp.SyscallFilter(default)
    for rule in profile["syscalls"]:
        if not _applies(rule):
            continue
        action = pyseccomp.ALLOW
        if rule["action"] == "SCMP_ACT_ERRNO":
            action = pyseccomp.ERRNO(rule.get("errnoRet", 1))
        if action == default:
            continue
        conditions = [_condition(condition) for condition in rule.get("args") or ()]
        for name in rule["names"]:
            number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            if number != _UNKNOWN:
                made.add_rule(action, number, *conditions)
    return made


def _applies(rule: dict[str, Any]) -> bool:
    """Whether a rule is for a container without capabilities on this kernel and architecture."""
    here = ARCHITECTURES[platform.machine()]
    wanted = rule.get("includes") or {}
    unwanted = rule.get("excludes") or {}
    if wanted.get("caps") or here in unwanted.get("arches", ()):
        return False
    if wanted.get("arches") and here not in wanted["arches"]:
        return False
    return _release() >= _version(wanted.get("minKernel", "0.0"))


def _condition(condition: dict[str, Any]) -> pyseccomp.Arg:
    comparison = COMPARISONS[condition["op"]]
    # `value` is the mask where there is one, and what is left of the argument `valueTwo`.
    more = (condition.get("valueTwo", 0),) if comparison == pyseccomp.MASKED_EQ else ()
    return pyseccomp.Arg(condition["index"], comparison, condition["value"], *more)


def _release() -> tuple[int, ...]:
    return _version(".".join(platform.release().split(".")[:2]))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split("."))


if __name__ == "__main__":
    main()
