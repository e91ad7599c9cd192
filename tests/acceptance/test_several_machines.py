"""What docs/broker.md and docs/quickstart.md have people type on several machines, on this one."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from broker.loopback_ports import free_ports
from broker.users import keep_urls
from datarun.demo.datasets import write_iris
from schemas.permissions import BrokerUser
from tests.support.command import Folder, environment
from tests.support.deadline import wait_until
from tests.support.pages import BASH, path_with_datarun, run_by
from tests.support.postgres import postgres, postgres_url
from tests.support.rabbitmq import Vhost
from tests.support.submissions import DUMMY

__all__ = ["postgres", "postgres_url"]

SETUP, WORKER = run_by(__file__, "docs/broker.md")
(MACHINES,) = run_by(__file__, "docs/quickstart.md")


class Machines:
    """Where somebody types; a RabbitMQ and a database are in place of those that pages name."""

    def __init__(self, folder: Folder, vhost: Vhost, database: str) -> None:
        self._folder = folder
        node = vhost.node
        login = f"{node.username}:{node.password}"
        (self.port,) = free_ports(1)
        self._places = {
            "amqps://admin:password@rabbitmq.example.org/datarun": vhost.admin_url,
            "https://admin:password@rabbitmq.example.org:15671": (
                node.management_url.replace("://", f"://{login}@")
            ),
            "amqps://worker:its-password@rabbitmq.example.org/datarun": (
                vhost.logins.of(BrokerUser.WORKER)
            ),
            "amqps://user:password@rabbitmq.example.org/vhost": vhost.admin_url,
            "postgresql+psycopg://user:password@db.example.org/datarun": database,
        }
        (folder.path / "programs").mkdir()
        self._path = path_with_datarun(folder.path / "programs/bin")
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def type_in(self, exports: str, *commands: str) -> str:
        """Commands that end, in a shell with the variables; what they print."""
        done = subprocess.run(
            [*BASH, self._here("\n".join([exports, *commands]))],
            cwd=self._folder.path,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{commands}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, exports: str, command: str) -> None:
        """A command that goes on, until it is ready."""
        machine = Path(tempfile.mkdtemp(prefix="machine-", dir=self._folder.path))
        with (machine / "log").open("wb") as log:
            started = subprocess.Popen(
                [*BASH, self._here(f"{exports}\nexec {command}")],
                cwd=machine,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running[str(machine / "log")] = started

    def wait_until_ready(self) -> None:
        """All that were started."""
        for log, started in self._running.items():

            def is_ready(log: str = log, started: subprocess.Popen[bytes] = started) -> bool:
                text = Path(log).read_text(encoding="utf-8")
                assert started.poll() is None, text
                return re.search(r"\b(worker|collector|gateway)_ready\b", text) is not None

            wait_until(is_ready, within=60, what=log)

    def logs(self) -> str:
        return "".join(Path(log).read_text(encoding="utf-8") for log in self._running)

    def stop(self) -> None:
        for started in self._running.values():
            started.terminate()
        assert [started.wait(60) for started in self._running.values()] == [0] * len(self._running)
        self._running.clear()

    def kill(self) -> None:
        """Whatever a failed test has left running."""
        for started in self._running.values():
            started.kill()
            started.wait(30)

    def _here(self, text: str) -> str:
        for place, here in self._places.items():
            text = text.replace(place, here)
        assert "example.org" not in text
        return text

    def _environment(self) -> dict[str, str]:
        # Port 8000 may be taken here, and a RabbitMQ 3.x asks about its consumer_timeout.
        return environment(
            PATH=self._path,
            DATARUN_GATEWAY_PORT=str(self.port),
            DATARUN_CONSUMER_TIMEOUT_RAISED="true",
        )


@pytest.fixture
def machines(folder: Folder, vhost: Vhost, postgres_url: str) -> Iterator[Machines]:
    # All tests share the users of this RabbitMQ, who keep their passwords.
    keep_urls(folder.home, vhost.logins.users)
    made = Machines(folder, vhost, postgres_url)
    yield made
    made.kill()


def exports_and_commands(code: str) -> tuple[str, list[str]]:
    """The variables that a block sets, and what it has people type then."""
    lines = [line.partition("#")[0].strip() for line in code.splitlines()]
    exports = [line for line in lines if line.startswith("export ")]
    return "\n".join(exports), [line for line in lines if line not in exports]


@pytest.mark.slow
def test_a_broker_of_ones_own_is_set_up_and_services_of_several_machines_run_folds(
    folder: Folder, machines: Machines, vhost: Vhost
) -> None:
    # Given a RabbitMQ that is set up as the page says
    exports, commands = exports_and_commands(SETUP.code)
    machines.type_in(exports, *commands)
    assert set(tomllib.loads((folder.home / "broker-users.toml").read_text())) == set(BrokerUser)

    # Then a worker with a login of its own starts
    exports, (command,) = exports_and_commands(WORKER.code)
    machines.start(exports, command)
    machines.wait_until_ready()
    assert "WARNING" not in machines.logs()
    machines.stop()

    # When each service is started as the quickstart says
    exports, (setup, *lasting, add_user) = exports_and_commands(MACHINES.code)
    machines.type_in(exports, setup)
    assert len(lasting) == 4
    for command in lasting:
        machines.start(exports, command)
    machines.wait_until_ready()

    # Then folds are tested, and the new user is let in
    folder.submission("dummy", {"classifier.py": DUMMY})
    settings = {"DATARUN_BROKER": vhost.admin_url}
    csv = write_iris(folder.path)
    folder.succeed("data", "publish", "iris", csv.name, "--target", "species", **settings)
    folder.succeed("submit", "dummy", "--dataset", "iris", "--cv", "2", "--wait", **settings)
    password = machines.type_in(exports, f"{add_user} --json").strip()
    url = f"http://127.0.0.1:{machines.port}/runapp/rawdata/"
    auth = ("databoard", json.loads(password)["password"])
    assert requests.get(url, auth=auth, timeout=10).status_code == 200
    machines.stop()
