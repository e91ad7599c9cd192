"""The services of datarun as processes of their own, on a test's virtual host and database."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sql

from broker.loopback_ports import free_ports
from broker.private_node import NodeAddress
from datarun import Client
from datarun.up.readiness import declare_shared_topology
from schemas.errors import DatarunError
from schemas.permissions import BrokerUser
from schemas.settings import Settings
from schemas.states import TERMINAL, Isolation, Role
from storage.engine import open_engine, transaction
from storage.users import UserRole, add_user, find_user
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Logins, Vhost, new_vhost
from tests.support.strict import strict_if_required

ROOT = Path(__file__).parents[2]


class Service:
    """One `datarun ...` process, whose log is in a file."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log_file = log
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "datarun", *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, within: float = 60) -> None:
        """Wait until the log says `text`."""

        def said() -> bool:
            assert self.process.poll() is None or text in self.log, f"it ended:\n{self.log}"
            return text in self.log

        wait_until(said, within=within, what=f"{text!r} in the log of {self.process.args}")

    def kill(self) -> None:
        """SIGKILL to the process itself; what it started is its own business."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM, then its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
            raise AssertionError(f"it did not stop on SIGTERM:\n{self.log}") from None

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


class RestClient:
    """A user of a gateway process."""

    service: Service

    def __init__(self, url: str, database_url: str) -> None:
        self.url = url
        self.auth = ("olga", "olga's password")
        self._database_url = database_url

    def add_user(self) -> None:
        """Unless he is there already."""
        engine = open_engine(self._database_url)
        try:
            with transaction(engine) as connection:
                if find_user(connection, self.auth[0]) is None:
                    add_user(connection, *self.auth, UserRole.USER)
        finally:
            engine.dispose()

    def get(self, path: str, **arguments: Any) -> requests.Response:
        """GET below /runapp/."""
        return requests.get(f"{self.url}runapp/{path}", auth=self.auth, timeout=60, **arguments)

    def post(self, path: str, **body: Any) -> requests.Response:
        """POST below /runapp/."""
        return requests.post(f"{self.url}runapp/{path}", auth=self.auth, json=body, timeout=60)

    def state_of(self, fold_id: int) -> str:
        """Of one fold."""
        return str(self.get(f"submissionfold/{fold_id}/").json()["state"])

    def wait_until_ended(self, *fold_ids: int, within: float = 60) -> None:
        """Until all of them have their verdict."""
        wanted = set(fold_ids)

        def ended() -> bool:
            listed = self.get("submissionfold-light/").json()
            return wanted <= {
                fold["databoard_sf_id"] for fold in listed if fold["state"] in TERMINAL
            }

        wait_until(ended, within=within, what=f"the verdicts of {fold_ids}")


class Stack:
    """Collector and workers of one test, each as its own user; starts none by itself."""

    def __init__(self, logins: Logins, database_url: str, folder: Path) -> None:
        self.logins = logins
        self.database_url = database_url
        self.folder = folder
        self.services: list[Service] = []

    def start(self, *arguments: str, **settings: object) -> Service:
        """A service with these settings; not yet ready."""
        log = self.folder / f"{'-'.join(arguments[:1])}-{len(self.services)}.log"
        user = _user_of(arguments)
        own = {"broker": self.logins.of(user)} if user is not None else {}
        service = Service(list(arguments), self.environment(**own | settings), log)
        self.services.append(service)
        return service

    def declare_topology(self) -> None:
        """As `datarun broker setup` does."""
        declare_shared_topology(self.logins.admin, Settings())

    def start_collector(self, **settings: object) -> Service:
        """A collector that answers."""
        service = self.start("collector", **settings)
        self._wait_for_an_answer(service)
        return service

    def start_worker(self, role: str = "folds", *, slots: int = 2, **settings: object) -> Service:
        """A worker that takes work."""
        service = self._launch_worker(role, slots=slots, **settings)
        service.wait_for("worker_ready")
        return service

    def _wait_for_an_answer(self, collector: Service) -> None:
        def answers() -> bool:
            assert collector.process.poll() is None, f"the collector ended:\n{collector.log}"
            try:
                with self.client(timeout=1) as client:
                    client.status()
            except DatarunError:
                return False
            return True

        wait_until(answers, within=60, what="an answer of the collector")

    def _launch_worker(self, role: str, *, slots: int, **settings: object) -> Service:
        name = f"worker-{len(self.services)}"
        own = {"home": self.folder / name, "cache": self.folder / "cache", **settings}
        arguments = ["worker", "--role", role]
        if role == "folds":
            arguments += ["--slots", str(slots)]
        return self.start(*arguments, **own)

    def start_gateway(self, port: int | None = None, **settings: object) -> RestClient:
        """A gateway that answers, and its user."""
        (port,) = (port,) if port is not None else free_ports(1)
        client = RestClient(f"http://127.0.0.1:{port}/", self.database_url)
        client.service = self.start("gateway", gateway_port=port, **settings)
        client.service.wait_for("gateway_ready")
        client.add_user()
        return client

    def start_all(self, *, slots: int = 2, **settings: object) -> None:
        """Topology, collector, one worker of each role; they start at the same time."""
        self.declare_topology()
        collector = self.start("collector", **settings)
        workers = [self._launch_worker(role, slots=slots, **settings) for role in Role]
        self._wait_for_an_answer(collector)
        for worker in workers:
            worker.wait_for("worker_ready")

    def rows(self, query: str) -> list[Any]:
        """What the database itself says."""
        engine = sql.create_engine(self.database_url)
        try:
            with engine.connect() as connection:
                return list(connection.execute(sql.text(query)))
        finally:
            engine.dispose()

    def can_write(self) -> bool:
        """Whether no process is within a transaction that writes."""
        if not self.database_url.startswith("sqlite"):
            open_ones = "select count(*) from pg_stat_activity where datname = current_database() \
and backend_xid is not null"
            return self.rows(open_ones)[0][0] == 0
        path = self.database_url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path, timeout=1)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
        return True

    def client(self, **settings: Any) -> Client:
        """A client of this stack."""
        return Client(self.logins.of(BrokerUser.PRODUCER), **settings)

    def environment(self, **settings: object) -> dict[str, str]:
        """For a datarun process of this stack."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("DATARUN_")
        }
        given: dict[str, object] = {
            "database": self.database_url,
            "home": self.folder / "home",
            # Tests meet a fold through files, and kill its processes: at level `strict` it has none
            # of the host's files, and other pids.
            "isolation": "process",
            "consumer_timeout_raised": "true",
            "heartbeat_seconds": 0.5,
            "worker_lost_after_seconds": 2,
            "log_level": "DEBUG",
            **settings,
        }
        named = {f"DATARUN_{name.upper()}": str(value) for name, value in given.items()}
        return {
            **inherited,
            **named,
            "DATARUN_SETTINGS": os.devnull,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def close(self) -> None:
        """Stop what was started, the workers first."""
        for service in reversed(self.services):
            if service.process.poll() is None:
                service.go_on()
                service.process.terminate()
        for service in self.services:
            try:
                service.process.wait(30)
            except subprocess.TimeoutExpired:
                service.kill()


def _user_of(arguments: Sequence[str]) -> BrokerUser | None:
    """As whom a command logs in to RabbitMQ."""
    match arguments:
        case ["worker", "--role", role, *_]:
            return BrokerUser.of_worker(Role(role))
        case ["collector", *_]:
            return BrokerUser.COLLECTOR
        case ["gateway", *_]:
            return None
    return BrokerUser.PRODUCER


@pytest.fixture
def stack(vhost: Vhost, tmp_path: Path) -> Iterator[Stack]:
    """A stack on SQLite."""
    made = Stack(vhost.logins, f"sqlite:///{tmp_path / 'datarun.sqlite'}", tmp_path)
    yield made
    made.close()


@pytest.fixture
def postgres_stack(vhost: Vhost, postgres_url: str, tmp_path: Path) -> Iterator[Stack]:
    """A stack on PostgreSQL."""

    made = Stack(vhost.logins, postgres_url, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_stack(
    rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A running stack with two slots for all tests of a file, which use names of their own."""
    with _running(rabbitmq, tmp_path_factory, strict_if_required()) as made:
        yield made


@pytest.fixture(scope="module")
def shared_process_stack(
    rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """As `shared_stack`, with folds that see the host's files."""
    with _running(rabbitmq, tmp_path_factory, Isolation.PROCESS) as made:
        yield made


@contextlib.contextmanager
def _running(
    rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory, isolation: Isolation
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with new_vhost(rabbitmq) as vhost:
        made = Stack(vhost.logins, f"sqlite:///{folder / 'datarun.sqlite'}", folder)
        try:
            made.start_all(isolation=isolation)
            yield made
        finally:
            made.close()
