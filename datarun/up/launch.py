"""A supervisor in a process of its own: started, waited for until ready, stopped."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil

from datarun.logs import log_to_stderr
from datarun.up.child import die_with
from datarun.up.environment import environment
from datarun.up.home import Connection, Home
from datarun.up.notices import Listener, Notice, NoticeKind, read_notices, write_notices
from datarun.up.service import ending, tail
from schemas.errors import ConfigurationError, DatarunError
from schemas.settings import Settings, load_settings

logger = logging.getLogger(__name__)

_LEVELS = {
    NoticeKind.WARNING: logging.WARNING,
    NoticeKind.DIED: logging.WARNING,
    NoticeKind.FAILED: logging.ERROR,
}

GIVEN_UP = Notice(NoticeKind.STOPPING, "", "stopping ...")
"""Whoever has started the stack, or waits until it is started, wants it no longer."""

POLL_SECONDS = 0.05
DYING_SECONDS = 30.0
"""How long what a killed supervisor left may take to end by itself."""


def launch(
    settings: Settings, listen: Listener, *, attached: bool = False, disposable: bool = False
) -> subprocess.Popen[bytes]:
    """Start a supervisor and return once its stack is ready.

    attached: it stops its stack when this process ends; else it goes on without it.
    disposable: nobody will start this home again, so stopping may be quick.
    Raises ConfigurationError, with the end of its log where that helps, when there is no stack.
    """
    home = Home.at(settings.home)
    home.create()
    # Before a supervisor is started: its log is that of the stack that runs.
    home.refuse_a_second()
    log_file = home.logs / "supervisor.log"
    reading, writing = os.pipe()
    options = [f"--owner={os.getpid()}"] * attached + ["--disposable"] * disposable
    supervisor: subprocess.Popen[bytes] | None = None
    try:
        with log_file.open("ab") as log, os.fdopen(reading, encoding="utf-8") as notices:
            begin = log.tell()
            try:
                supervisor = subprocess.Popen(
                    [sys.executable, "-P", "-m", "datarun.up.launch", str(writing), *options],
                    env=environment(settings.model_copy(update={"home": home.folder})),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(writing,),
                    start_new_session=True,
                )
            finally:
                os.close(writing)
            for notice in read_notices(notices):
                if notice.kind is NoticeKind.FAILED:
                    supervisor.wait()
                    raise ConfigurationError(notice.text)
                listen(notice)
                if notice.kind is NoticeKind.READY:
                    return supervisor
    except BaseException:
        # Ctrl-C while it starts, too: a stack that nobody waits for any more is not left.
        if supervisor is not None and supervisor.poll() is None:
            listen(GIVEN_UP)
            supervisor.terminate()
            supervisor.wait()
        raise
    status = supervisor.wait()
    raise ConfigurationError(
        f"the supervisor {ending(status)} before the stack was ready; the end of its log, "
        f"{log_file}:\n{tail(log_file, 15, begin)}"
    )


def stop(home: Home) -> bool:
    """Stop the stack of `home`, and wait until nothing of it is left.

    False when none was running; what a killed one left behind is cleaned up all the same.
    """
    supervisor = home.holder()
    if supervisor is not None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(supervisor)
            process.terminate()
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL_SECONDS)
        return True
    if home.connection_file.exists():
        _wait_for_the_dying(Connection.read(home))
        home.connection_file.unlink(missing_ok=True)
    return False


def _wait_for_the_dying(left: Connection) -> None:
    """Services die with their supervisor, if a moment later."""
    deadline = time.monotonic() + DYING_SECONDS
    while alive := [name for name, pid in left.pids.items() if _lives(pid, left)]:
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"left by a supervisor that was killed, and still running: {', '.join(alive)}"
            )
        time.sleep(POLL_SECONDS)


def _lives(pid: int, left: Connection) -> bool:
    """Whether the service is still there; a number that was given to another process is not it."""
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
        return process.status() != psutil.STATUS_ZOMBIE and str(left.supervisor) in command
    except psutil.NoSuchProcess:
        return False


def main(arguments: list[str]) -> int:
    """`python -m datarun.up.launch PIPE [--owner=PID] [--disposable]`; settings by environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pipe", type=int)
    parser.add_argument("--owner", type=int)
    parser.add_argument("--disposable", action="store_true")
    options = parser.parse_args(arguments)
    if options.owner is not None:
        die_with(options.owner, signal.SIGTERM)
    return _supervise(options.pipe, options.disposable)


def _supervise(writing: int, disposable: bool) -> int:
    from datarun.up.supervisor import Supervisor

    tell = write_notices(writing)
    log_to_stderr("INFO", service="supervisor")

    def listen(notice: Notice) -> None:
        extra = {"action": f"stack_{notice.kind}", "of": notice.service or None}
        logger.log(_LEVELS.get(notice.kind, logging.INFO), "%s", notice.text, extra=extra)
        tell(notice)

    try:
        settings = load_settings()
        log_to_stderr(settings.log_level, settings.log_format, service="supervisor")
        Supervisor(settings, listen, disposable=disposable).run()
    except DatarunError as error:
        listen(Notice(NoticeKind.FAILED, "", str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
