"""A worker under test: its process, and its log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from schemas.states import Role
from tests.support.deadline import wait_until

ROOT = Path(__file__).parents[2]

_RUN = "import sys; from consumer.main import run_worker; from datarun.logs import log_to_stderr; \
from schemas.settings import LogFormat, load_settings; from schemas.states import Role; \
log_to_stderr('DEBUG', LogFormat.TEXT); run_worker(load_settings(), Role(sys.argv[1]))"


class WorkerProcess:
    """A worker in a process of its own, as the command starts it."""

    def __init__(self, role: Role, url: str, home: Path, **settings: object) -> None:
        self.log = home / f"worker-{time.monotonic_ns()}.log"
        defaults: dict[str, object] = {
            "slots": 1,
            "heartbeat_seconds": 0.3,
            "worker_lost_after_seconds": 1.2,
            "isolation": "process",
        }
        variables = {
            f"DATARUN_{name.upper()}": str(value) for name, value in (defaults | settings).items()
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUN, role],
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "DATARUN_BROKER": url,
                    "DATARUN_HOME": str(home),
                    **variables,
                },
                stdout=log,
                stderr=log,
                cwd=home,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def says(self, action: str) -> bool:
        """Whether its log has a line with that action."""
        assert self._process.poll() is None or action == "worker_stopped", self.text()
        return f"action={action}" in self.text()

    @property
    def name(self) -> str:
        """As its events and heartbeats say it."""
        match = re.search(r"action=worker_ready worker=(\S+)", self.text())
        assert match is not None
        return match.group(1)

    def text(self) -> str:
        return self.log.read_text()

    def wait_ready(self) -> WorkerProcess:
        wait_until(lambda: self.says("worker_ready"), within=30, what=f"worker ready ({self.log})")
        return self

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """-9, without any warning."""
        self._process.kill()
        self._process.wait(10)

    def wait_stopped(self, within: float = 20) -> int:
        """Its exit code."""
        return self._process.wait(within)

    def end(self) -> None:
        """Make sure that it is gone."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(0.5)
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGTERM)
                try:
                    self._process.wait(10)
                except subprocess.TimeoutExpired:
                    self.kill()
