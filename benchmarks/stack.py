"""A whole datarun of its own for a benchmark: `datarun up` in a temporary home."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from broker.users import url_of
from consumer.sandbox.levels import strict_obstacle
from schemas.settings import CONNECTION_FILE, read_connection
from schemas.states import Isolation

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class RunningStack:
    """What `datarun up` started."""

    home: Path
    broker_url: str
    """A client's."""

    admin_url: str
    isolation: str
    before: frozenset[int]
    """Processes that were there before."""

    def memory(self) -> dict[str, float]:
        """PSS in MB by process: memory that several share counts once in the sum."""
        return self._by_name(lambda process: process.memory_full_info().pss / 1e6)

    def cpu(self) -> dict[str, float]:
        """CPU seconds until now by process, with those of its dead children: a slot's are folds."""
        return self._by_name(lambda process: sum(process.cpu_times()[:4]))

    def _by_name(self, figure: Callable[[psutil.Process], float]) -> dict[str, float]:
        found: dict[str, float] = {}
        for process in psutil.process_iter():
            if process.pid in self.before:
                continue
            with contextlib.suppress(psutil.Error):
                name = _name(process)
                if name is not None:
                    found[name] = found.get(name, 0) + figure(process)
        return found


@contextlib.contextmanager
def running_stack(folder: Path, slots: int) -> Iterator[RunningStack]:
    """`datarun up --detach` in `folder`, and `datarun down` afterwards."""
    home = folder / "home"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DATARUN_")},
        "DATARUN_HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }
    before = frozenset(psutil.pids())

    def datarun(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "datarun", *arguments],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    # Asked for by name: `up` would take the strongest that the host allows, and not say which.
    isolation = Isolation.PROCESS if strict_obstacle() else Isolation.STRICT
    datarun("up", "--detach", "--slots", str(slots), "--isolation", isolation)
    try:
        connection = read_connection(home)
        assert (home / CONNECTION_FILE).is_file()
        admin = url_of(connection["user"], connection["password"], connection["broker"])
        yield RunningStack(home, connection["broker"], admin, isolation, before)
    finally:
        datarun("down")


def _name(process: psutil.Process) -> str | None:
    """What a process of ours is for."""
    if process.name().startswith(("beam", "epmd", "erl", "inet_")):
        return "RabbitMQ"
    words = process.cmdline()
    if "consumer.execution.zygote" in " ".join(words):
        return "zygote and slots"
    for part in ("collector", "worker", "gateway"):
        if part in words:
            return part
    return None
