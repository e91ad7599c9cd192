"""The supervisor of `datarun up`: starts a stack, keeps it running, and stops all of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType

from pydantic import SecretStr

from broker.blocking import BlockingLink
from broker.file_systems import missing_folder
from datarun.up.environment import environment
from datarun.up.gateway_login import GatewayLogin, gateway_url, prepare_users
from datarun.up.gateway_port import GatewayPort, choose_port
from datarun.up.home import Connection, Home
from datarun.up.metrics_ports import check_metrics_ports, metrics_port
from datarun.up.notices import Listener, Notice, NoticeKind
from datarun.up.readiness import (
    declare_shared_topology,
    folds_running,
    folds_that_run,
    gateway_answers,
    workers_heard,
)
from datarun.up.service import ServiceProcess
from datarun.up.services import COLLECTOR, FOLDS_WORKER, GATEWAY, PREPARE_WORKER, Service
from datarun.up.stack_broker import GivenBroker, PrivateBroker
from schemas.errors import ConfigurationError
from schemas.permissions import BrokerUser
from schemas.settings import Settings
from storage.engine import database_url

START_SECONDS = 90.0
"""How long services may take until they do their work; a loaded machine imports slowly."""

COLLECTOR_SECONDS = 15.0
"""How long the collector may take to commit what it holds, once asked to end."""

AFTER_GRACE_SECONDS = 10.0
"""How long a worker may take to end after the grace it gives its folds."""

HEARTBEAT_SECONDS = 1.0
"""For a few workers on one machine; a person who asks for the status sees what is so now."""

POLL_SECONDS = 0.05


class Supervisor:
    """One stack in one home. Runs in the main thread: it handles signals and starts children."""

    def __init__(self, settings: Settings, listen: Listener, *, disposable: bool = False) -> None:
        """disposable: nobody will start this home again, so stopping may be quick."""
        self._home = Home.at(settings.home)
        self._listen = listen
        self._asked_to_stop = 0
        self._settings = settings
        self._broker = (
            GivenBroker(settings)
            if settings.broker is not None
            else PrivateBroker(self._home, disposable=disposable)
        )
        self._workers: list[ServiceProcess] = []
        self._collectors: list[ServiceProcess] = []
        self._gateways: list[ServiceProcess] = []
        self._gateway_url = ""
        self._connection: Connection | None = None

    def run(self) -> bool:
        """Start the stack and keep it running until SIGINT, SIGTERM or SIGHUP.

        Whether it was ever ready: False when it was interrupted while it started.

        Nothing is left running when this returns or raises. Raises ConfigurationError when a
        stack already runs in this home, or when this one cannot be started.
        """
        with self._home.lock():
            # One that is there was left by a supervisor that was killed.
            self._home.connection_file.unlink(missing_ok=True)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._on_signal)
            # First: whoever wants a port that is taken is told at once.
            port = choose_port(self._home, self._settings)
            check_metrics_ports(self._settings)
            if sentence := missing_folder(self._settings.blobs):
                raise ConfigurationError(sentence)
            try:
                self._start(port)
                while not self._asked_to_stop:
                    self._restart_what_died()
                    time.sleep(POLL_SECONDS)
            finally:
                self._stop()
        return self._connection is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._asked_to_stop += 1

    def _start(self, port: GatewayPort) -> None:
        started = datetime.now(UTC)
        self._say(NoticeKind.STARTING, "broker", self._broker.starting)
        self._broker.start()
        declare_shared_topology(
            self._broker.url, self._settings, is_given_up=lambda: self._asked_to_stop > 0
        )
        if self._asked_to_stop:
            return
        self._say(NoticeKind.STARTED, "broker", f"{self._broker.description} is running")

        settings = self._settings.model_copy(
            update={
                "home": self._home.folder,
                "broker": None,
                **dict.fromkeys(("broker_ca", "broker_cert", "broker_key")),
                # An administrator's login is for no service, and one pulse is not for several.
                **dict.fromkeys(("management", "pulse")),
                "heartbeat_seconds": min(self._settings.heartbeat_seconds, HEARTBEAT_SECONDS),
                "consumer_timeout_raised": self._broker.consumer_timeout_raised,
            }
        )
        prepare_users(self._home, settings)
        self._gateway_url = gateway_url(settings, port.number)
        settings = settings.model_copy(update={"gateway_port": port.number})
        self._collectors = [self._process(COLLECTOR, settings)]
        self._workers = [
            self._process(service, settings) for service in (PREPARE_WORKER, FOLDS_WORKER)
        ]
        self._gateways = [self._process(GATEWAY, settings)]
        for process in self._services:
            if self._asked_to_stop:
                return
            self._say(
                NoticeKind.STARTING, process.service.name, f"starting the {process.service.name}"
            )
            process.start()
        if not self._wait_until_started():
            return
        port.remember(self._home)
        if port.warning is not None:
            self._say(NoticeKind.WARNING, GATEWAY.name, port.warning)
        self._connection = Connection(
            broker=self._url_of(BrokerUser.PRODUCER),
            users={str(user): url for user, url in self._broker.users.items()},
            management=self._broker.management,
            user=self._broker.user,
            password=self._broker.password,
            database=database_url(settings),
            supervisor=os.getpid(),
            started=started,
        )
        self._write_connection()
        self._say(NoticeKind.READY, "", f"ready; {self._home.connection_file} says how to reach it")

    def _wait_until_started(self) -> bool:
        """False when asked to stop meanwhile. Raises ConfigurationError when one cannot start."""
        deadline = time.monotonic() + START_SECONDS
        missing = {process.service.name: process for process in self._services}
        with BlockingLink(self._url_of(BrokerUser.PRODUCER), "datarun up") as link:
            while missing and not self._asked_to_stop:
                for process in self._services:
                    if death := process.death():
                        raise ConfigurationError(_no_start(process, death))
                heard = workers_heard(link)
                for name, process in list(missing.items()):
                    if self._is_at_work(process, heard):
                        del missing[name]
                        self._say(NoticeKind.STARTED, name, f"the {name} is running")
                if missing and time.monotonic() > deadline:
                    late = next(iter(missing.values()))
                    raise ConfigurationError(
                        _no_start(late, f"did not begin to work within {START_SECONDS:.0f} seconds")
                    )
                time.sleep(POLL_SECONDS)
        return not missing

    def _is_at_work(self, process: ServiceProcess, heard: set[int] | None) -> bool:
        """heard: workers' process ids, as the collector said."""
        if process in self._gateways:
            return gateway_answers(self._gateway_url)
        return heard is not None and (process in self._collectors or process.pid in heard)

    def _restart_what_died(self) -> None:
        if (pause := self._broker.death()) is not None:
            self._say(
                NoticeKind.DIED,
                "broker",
                f"{self._broker.description} has died; starting it again in {pause:.0f} s",
            )
            self._wait(pause)
            if self._asked_to_stop:
                return
            self._broker.start()
            self._say(NoticeKind.STARTED, "broker", f"{self._broker.description} is running again")
        for process in self._services:
            process.put_long_log_aside()
            name = process.service.name
            if death := process.death():
                self._say(
                    NoticeKind.DIED,
                    name,
                    f"the {name} {death}; starting it again in "
                    f"{process.seconds_to_restart:.0f} s (its log: {process.log})",
                )
            elif process.restart_when_due():
                self._write_connection()
                self._say(NoticeKind.STARTED, name, f"the {name} is started again")

    def _stop(self) -> None:
        self._home.connection_file.unlink(missing_ok=True)
        asked = self._asked_to_stop
        self._say_what_is_waited_for()
        self._end(
            [*self._gateways, *self._workers],
            self._settings.grace_seconds + AFTER_GRACE_SECONDS,
            asked,
        )
        self._end(self._collectors, COLLECTOR_SECONDS, self._asked_to_stop)
        self._say(NoticeKind.STOPPING, "broker", self._broker.stopping)
        self._broker.stop()
        self._say(NoticeKind.STOPPED, "", "stopped")

    def _say_what_is_waited_for(self) -> None:
        grace = self._settings.grace_seconds
        workers = {process.pid for process in self._workers if process.pid and process.is_running}
        if not grace or not workers or self._connection is None:
            return
        running = folds_running(self._connection.broker, workers)
        if running == 0:
            return
        what = "folds may be running" if running is None else folds_that_run(running)
        self._say(
            NoticeKind.STOPPING,
            FOLDS_WORKER.name,
            f"{what}; waiting up to {grace:.0f} s, Ctrl-C again to stop now",
        )

    def _end(self, processes: Iterable[ServiceProcess], seconds: float, asked: int) -> None:
        """SIGTERM, SIGINT for each signal after the first `asked` ones, and SIGKILL at last.

        Services count both alike. A second SIGTERM while the first one is pending would be lost
        (man 7 signal), and whoever pressed Ctrl-C twice would wait out the grace after all.
        """
        running = [process for process in processes if process.is_running]
        for process in running:
            self._say(
                NoticeKind.STOPPING, process.service.name, f"stopping the {process.service.name}"
            )
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while running := [process for process in running if process.is_running]:
            if time.monotonic() > deadline:
                for process in running:
                    process.signal(signal.SIGKILL)
            elif self._asked_to_stop > asked:
                asked = self._asked_to_stop
                for process in running:
                    process.signal(signal.SIGINT)
            time.sleep(POLL_SECONDS)

    def _url_of(self, user: BrokerUser) -> str:
        """With which a service, or a client, logs in."""
        return self._broker.users.get(user, self._broker.url)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._asked_to_stop and time.monotonic() < until:
            time.sleep(POLL_SECONDS)

    def _process(self, service: Service, settings: Settings) -> ServiceProcess:
        if service.user is not None:
            url = self._url_of(service.user)
            settings = settings.model_copy(update={"broker": SecretStr(url)})
        port = metrics_port(settings, service)
        settings = settings.model_copy(update={"metrics_port": port})
        log = self._home.logs / f"{service.name.replace(' ', '-')}.log"
        return ServiceProcess(service, environment(settings), log)

    def _write_connection(self) -> None:
        assert self._connection is not None
        pids = {process.service.name: process.pid for process in self._services if process.pid}
        # Read again: `datarun users passwd` may have changed it.
        login = GatewayLogin.read(self._home)
        gateway = {"url": self._gateway_url, **(login.credentials if login is not None else {})}
        replace(self._connection, pids=pids, gateway=gateway).write(self._home)

    def _say(self, kind: NoticeKind, service: str, text: str) -> None:
        self._listen(Notice(kind, service, text))

    @property
    def _services(self) -> list[ServiceProcess]:
        return [*self._collectors, *self._workers, *self._gateways]


def _no_start(process: ServiceProcess, what: str) -> str:
    tail = process.log_tail()
    return f"the {process.service.name} {what}" + (
        f"; the end of its log, {process.log}:\n{tail}" if tail else f"; see {process.log}"
    )
