"""One service of a stack as a child process with a log file; started again when it dies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from datarun.logs import readable
from datarun.up.services import Service

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
STABLE_SECONDS = 60.0
"""A service that has lived for so long is started again after the shortest pause."""

MAX_LOG_BYTES = 10 << 20
"""A log that is longer is put aside; one old log is kept."""


class Pauses:
    """How long to wait before starting again what died: longer each time it dies young."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def after_a_life_of(self, seconds: float) -> float:
        """Seconds to wait."""
        pause = FIRST_PAUSE if seconds > STABLE_SECONDS else self._next
        self._next = min(pause * 2, LONGEST_PAUSE)
        return pause


class ServiceProcess:
    """A running service. Start it from the main thread, and from no other (man 2 prctl)."""

    def __init__(self, service: Service, environment: Mapping[str, str], log: Path) -> None:
        self.service = service
        self.log = log
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begins = 0
        self._started = 0.0
        self._pauses = Pauses()
        self._restart_at: float | None = None

    @property
    def pid(self) -> int | None:
        """None before the first start, and while it waits to be started again."""
        return self._process.pid if self._process and self._restart_at is None else None

    def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C in a terminal is for the supervisor alone."""
        self.put_long_log_aside()
        # -P: the folder that the user happens to be in is no place to import from.
        command = [sys.executable, "-P", "-m", "datarun.up.child", str(os.getpid())]
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            self._process = subprocess.Popen(
                [*command, *self.service.arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started = time.monotonic()
        self._restart_at = None

    def death(self) -> str | None:
        """How it ended, said once for each time it does; None while it lives."""
        if self._process is None or self._restart_at is not None:
            return None
        status = self._process.poll()
        if status is None:
            return None
        now = time.monotonic()
        self._restart_at = now + self._pauses.after_a_life_of(now - self._started)
        return ending(status)

    def restart_when_due(self) -> bool:
        """Start it again once its pause is over; whether that was now."""
        if self._restart_at is None or time.monotonic() < self._restart_at:
            return False
        self.start()
        return True

    @property
    def seconds_to_restart(self) -> float:
        """How long until it is started again; 0 while it lives."""
        return max(0.0, self._restart_at - time.monotonic()) if self._restart_at else 0.0

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def put_long_log_aside(self) -> None:
        """Its content, since a service goes on with the file it has; what it says meanwhile, in
        some milliseconds, is lost."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > MAX_LOG_BYTES:
                with contextlib.suppress(OSError):  # a full disk takes no copy, and is given this
                    shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
                os.truncate(self.log, 0)
                self._log_begins = 0

    def log_tail(self, lines: int = 15) -> str:
        """The end of its log, as far as it has written that since it was started."""
        return tail(self.log, lines, self._log_begins)


def ending(status: int) -> str:
    """`ended with exit status 1`, or `was killed by SIGKILL`."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def tail(log: Path, lines: int, begin: int = 0) -> str:
    """The last lines of a log file from byte `begin` on, undecodable bytes replaced."""
    try:
        with log.open("rb") as file:
            file.seek(max(begin, file.seek(0, os.SEEK_END) - 16_384))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(map(readable, text.splitlines()[-lines:]))
