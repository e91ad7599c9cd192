"""Which isolation levels this host allows."""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from consumer import packets
from consumer.sandbox.clean_process import start_clean
from schemas.states import Isolation

_PROBE_SECONDS = 20
_SILENT = ""
"""It ended without a word: then bubblewrap has said why."""

_HINTS = (
    (
        "userns",
        "this system lets no ordinary program make user namespaces: "
        "`sysctl -w kernel.unprivileged_userns_clone=1` where that exists, or "
        "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        "namespace",
        "namespaces are refused: in a container, run it with the seccomp profile and options that "
        "docs/containers.md names; in a chroot they are not to be had; on a host, see "
        "`sysctl user.max_user_namespaces`",
    ),
    (
        "proc",
        "a new /proc cannot be mounted: in a container, start it with "
        "`--security-opt systempaths=unconfined`",
    ),
)


@cache
def strict_obstacle() -> str | None:
    """Why level `strict` does not hold on this host, with what to do; None when it does.

    Takes every step of a strict fold's sandbox in a process of its own.
    """
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed: apt-get install bubblewrap"
    with tempfile.TemporaryFile() as words:
        try:
            process, connection = start_clean(
                "consumer.sandbox.probe",
                Path("/"),
                threads=1,
                isolation=Isolation.STRICT,
                stderr=words.fileno(),
            )
        except ModuleNotFoundError:
            raise  # An installation without the extra `worker`: that says nothing of the host.
        except (OSError, ImportError, RuntimeError) as error:
            return f"the sandbox cannot be started: {error} (apt-get install libseccomp2)"
        try:
            obstacle = _answer(connection)
        finally:
            connection.close()
            _end(process)
        if obstacle == _SILENT:
            words.seek(0)
            obstacle = words.read().decode(errors="replace").strip()[-500:] or "no answer"
    return None if obstacle is None else _with_hint(obstacle)


def _answer(connection: socket.socket) -> str | None:
    readable, _, _ = select.select([connection], [], [], _PROBE_SECONDS)
    if not readable:
        return _SILENT
    try:
        packet, _ = packets.receive(connection)
    except (EOFError, OSError):
        return _SILENT
    return None if packet["obstacle"] is None else str(packet["obstacle"])


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _with_hint(obstacle: str) -> str:
    for word, hint in _HINTS:
        if word in obstacle.lower():
            return f"{obstacle} ({hint})"
    return obstacle


def strongest() -> Isolation:
    """The strongest level that this host allows."""
    return Isolation.PROCESS if strict_obstacle() else Isolation.STRICT
