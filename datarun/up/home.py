"""The folder of one stack: its paths, its lock, and the connection file that clients find."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from broker.private_file import write_private
from schemas.errors import ConfigurationError
from schemas.settings import CONNECTION_FILE, HOME_NAME, LOCK_FILE, read_connection

_PROBE_SECONDS = 1.0
"""Longer than anybody who only looks whether the lock is free holds it."""


@dataclass(frozen=True)
class Home:
    """Where a stack keeps everything: `folder` is absolute."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Home:
        """The home in `folder`, wherever the caller goes afterwards."""
        return cls(folder.expanduser().absolute())

    @property
    def connection_file(self) -> Path:
        """Written when the stack is ready, gone when it is stopped."""
        return self.folder / CONNECTION_FILE

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.folder / "logs"

    @property
    def node(self) -> Path:
        """The private RabbitMQ node's folder."""
        return self.folder / "rabbitmq"

    def create(self) -> None:
        """Make the folders, for this user alone: passwords and hidden labels will be in there."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make the folder {self.folder}: {error.strerror}; "
                "name another with DATARUN_HOME"
            ) from error

    def lock(self) -> TextIO:
        """Hold the home until the returned file is closed, or the process ends, however it does.

        Raises ConfigurationError, naming the process, when another one holds it.
        """
        self.create()
        file = os.fdopen(os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        deadline = time.monotonic() + _PROBE_SECONDS
        while not _locked(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                pid = file.read().strip()
                file.close()
                raise self._already_running(pid)
            time.sleep(0.05)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file

    def refuse_a_second(self) -> None:
        """Raises ConfigurationError, naming the process, when a stack runs here."""
        if (pid := self.holder()) is not None:
            raise self._already_running(str(pid))

    def _already_running(self, pid: str) -> ConfigurationError:
        return ConfigurationError(
            f"datarun is already running in {self.folder}"
            + (f" (process {pid})" if pid else "")
            + "; see `datarun status`, or stop it with `datarun down`"
        )

    def holder(self) -> int | None:
        """The process id of the running stack's supervisor; None when none runs here.

        The lock is the truth: a process id left behind by a killed one is never believed.
        """
        try:
            file = self._lock_file.open()
        except FileNotFoundError:
            return None
        with file:
            deadline = time.monotonic() + _PROBE_SECONDS
            while not _locked(file, fcntl.LOCK_SH):
                pid = file.read().strip()
                if pid.isdigit():
                    return int(pid)
                if time.monotonic() > deadline:
                    raise ConfigurationError(f"{self._lock_file} is held by a process unknown")
                time.sleep(0.05)
                file.seek(0)
            return None

    @property
    def _lock_file(self) -> Path:
        return self.folder / LOCK_FILE


@dataclass(frozen=True)
class Connection:
    """How to reach a running stack; what `connection.toml` says."""

    broker: str
    """AMQP URL with user and password, for clients."""

    database: str
    supervisor: int
    """Process id."""

    started: datetime
    management: str | None = None
    """URL of RabbitMQ's management console, without user and password."""

    user: str | None = None
    """Who may log in to the management console."""

    password: str | None = None
    users: Mapping[str, str] = field(default_factory=dict)
    """AMQP URLs of services by RabbitMQ's users, where each logs in as its own."""

    gateway: Mapping[str, str] = field(default_factory=dict)
    """`url`, and `username` and `password` of a user, where they are known."""

    pids: Mapping[str, int] = field(default_factory=dict)
    """Process ids of the services, by name."""

    def write(self, home: Home) -> None:
        """Put the file in place in one step, readable by this user alone."""
        write_private(home.connection_file, self._toml())

    @classmethod
    def read(cls, home: Home) -> Connection:
        """Raises ConfigurationError when there is none, or when it is not one of ours."""
        content: dict[str, Any] = read_connection(home.folder)
        try:
            return cls(**content)
        except TypeError as error:
            raise ConfigurationError(
                f"{home.connection_file} was not written by this version of `datarun up`: {error}"
            ) from error

    def _toml(self) -> str:
        lines = ["# Written by `datarun up`. It holds passwords: keep it to yourself."]
        for name in ("broker", "management", "user", "password", "database"):
            value = getattr(self, name)
            if value is not None:
                lines.append(f"{name} = {_toml_text(value)}")
        lines += [
            f"supervisor = {self.supervisor}",
            f"started = {self.started.isoformat(timespec='seconds')}",
            "",
            "[users]",
            *(f"{name} = {_toml_text(url)}" for name, url in self.users.items()),
            "",
            "[gateway]",
            *(f"{name} = {_toml_text(text)}" for name, text in self.gateway.items()),
            "",
            "[pids]",
            *(f"{_toml_text(name)} = {pid}" for name, pid in self.pids.items()),
        ]
        return "\n".join(lines) + "\n"


def running_above(folder: Path) -> Home | None:
    """The nearest home with a running stack in a folder above `folder`."""
    for above in folder.resolve().parents:
        home = Home.at(above / HOME_NAME)
        # A home of somebody else may lie on the way up.
        with suppress(OSError):
            if home.holder() is not None:
                return home
    return None


def _toml_text(value: str) -> str:
    # A JSON string is a TOML basic string as long as nothing is written as surrogate pairs.
    return json.dumps(value, ensure_ascii=False)


def _locked(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
