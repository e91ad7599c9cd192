"""One private PostgreSQL server for all tests, and a database of its own for each."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from broker.loopback_ports import LOOPBACK, free_ports
from tests.support.deadline import wait_until

NOBODY = 65534
"""Runs the server when the tests run as root, which PostgreSQL refuses."""

_numbers = itertools.count(1)


class PostgresServer:
    """A server on loopback with its own data folder; `stop` and `start` keep the data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = "datarun"
        self.password = secrets.token_hex(16)
        self.port = free_ports(1)[0]
        self._server: subprocess.Popen[bytes] | None = None
        self._programs = find_programs()
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        self._initialise()

    def url(self, database: str, *, port: int | None = None) -> str:
        """SQLAlchemy's URL of a database; `port` for the way through a proxy."""
        login = f"{self.user}:{self.password}@{LOOPBACK}:{port or self.port}"
        return f"postgresql+psycopg://{login}/{database}"

    def execute(self, statement: str) -> None:
        """Run one statement in the administrative database, outside a transaction."""
        with self._connect() as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start the server, and return when it answers."""
        log = (self.folder / "log").open("ab")
        with log:
            self._server = subprocess.Popen(
                self._as_owner(
                    # A kill -9 of pytest ends it, too.
                    *("--pdeathsig", "INT", "--", str(self._programs / "postgres")),
                    *("-D", str(self.folder / "data"), "-p", str(self.port)),
                    *("-c", f"listen_addresses={LOOPBACK}", "-c", "unix_socket_directories="),
                    # A crash of the machine may lose a test's data.
                    *("-c", "fsync=off", "-c", "full_page_writes=off"),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, within=30, what=f"PostgreSQL (log in {self.folder}/log)")

    def stop(self) -> None:
        """End it as an administrator would who does not wait for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash does: connections break, what was committed stays."""
        self._end(signal.SIGQUIT)

    def _end(self, number: int) -> None:
        if self._server is not None:
            # By root's setpriv or not, this is the server's own pid: setpriv execs.
            self._server.send_signal(number)
            self._server.wait(30)
            self._server = None

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=LOOPBACK,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def _initialise(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if os.getuid() == 0:
            os.chown(password_file, NOBODY, NOBODY)
        password_file.chmod(0o600)
        subprocess.run(
            self._as_owner(
                *("--", str(self._programs / "initdb"), "-D", str(self.folder / "data")),
                *("-U", self.user, "--pwfile", str(password_file), "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
            ),
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
        )

    @staticmethod
    def _as_owner(*command: str) -> list[str]:
        drop = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
        return ["setpriv", *(drop if os.getuid() == 0 else ()), *command]


def find_programs() -> Path:
    """The folder of the newest PostgreSQL server on this machine."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4])
    )
    if not versions:
        pytest.fail("no PostgreSQL server is installed: run scripts/test, which brings it")
    return versions[-1].parent


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private server that all tests share: use `postgres_url`."""
    # Not pytest's own folder, which another user cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="datarun-test-postgres-"))
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """SQLAlchemy's URL of an empty database for this test alone."""
    name = f"test_{next(_numbers)}"
    postgres.execute(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    # FORCE: a test may have left connections open.
    postgres.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
