"""Starts one of our modules as a clean process of its own, which other people's code is below."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from consumer import packets
from consumer.sandbox.as_nobody import NOBODY, STAGING
from consumer.sandbox.box import View, bubblewrap, python_views, user_files
from consumer.sandbox.linux import use_all_descriptors
from consumer.sandbox.seal import KEPT_VARIABLES, THREAD_VARIABLES
from consumer.sandbox.syscall_filter import compiled_filter
from schemas.states import Isolation


def start_clean(
    module: str,
    folder: Path,
    *,
    threads: int,
    isolation: Isolation,
    views: Sequence[View] = (),
    stderr: int | None = None,
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start `module`, and the worker's end of its socket.

    Its environment, which user code below it can read for ever, holds nothing of ours that is
    secret. At level `strict` the process is bubblewrap's, and gets the filter for system calls as
    a second descriptor; `views` are folders of the host that code in there sees as well.
    """
    # This process sends descriptors, too: what a fold hoards must not keep it from that.
    use_all_descriptors()
    with ExitStack() as held:
        ours, theirs = packets.socket_pair()
        held.enter_context(theirs)
        given_up = held.enter_context(ExitStack())
        given_up.enter_context(ours)
        ours.setblocking(False)
        passed = [theirs.fileno()]
        arguments = ["-P", "-s", "-m", module, str(theirs.fileno())]
        command: Sequence[str] = (sys.executable, *arguments)
        if isolation is Isolation.STRICT:
            program = os.memfd_create("filter")
            data = user_files()
            for descriptor in (program, *data):
                held.callback(os.close, descriptor)
                passed.append(descriptor)
            os.write(program, compiled_filter())
            os.lseek(program, 0, os.SEEK_SET)
            command = _sandboxed([*arguments, str(program)], views, data)
        process = subprocess.Popen(
            command,
            env=_environment(threads),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=passed,
            start_new_session=True,
        )
        given_up.pop_all()
    return process, ours


def give_away(*folders: Path) -> None:
    """Let code in the sandbox write to these folders, when it is not this process's user.

    Root's user in the sandbox is nobody.
    """
    if os.geteuid() == 0:
        for folder in folders:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _sandboxed(
    arguments: list[str], views: Sequence[View], data: tuple[int, int]
) -> tuple[str, ...]:
    python, python_needs = python_views()
    shown = [*python_needs, *views]
    if os.geteuid() != 0:
        return bubblewrap([python, *arguments], shown, data)
    # Root's user namespace would be root's: become nobody first, who cannot reach every folder.
    sources = [view.source for view in shown]
    staged = [replace(view, source=f"{STAGING}/{number}") for number, view in enumerate(shown)]
    launch = (sys.executable, "-P", "-s", "-m", "consumer.sandbox.as_nobody", str(len(sources)))
    return (*launch, *sources, *bubblewrap([python, *arguments], staged, data))


def _environment(threads: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {
        "LANG": "C.UTF-8",
        **kept,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # The order of sets of strings is the same on every worker.
        "PYTHONHASHSEED": "0",
        # What C code allocates comes in huge pages, where the kernel has them: a new process must
        # fault in all its memory, which long-lived ones did long ago.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
