"""A RabbitMQ node of one's own: on loopback, with its own data, gone when its owner is gone.

with PrivateNode(Path(".datarun/rabbitmq")) as address:
    connect(address.amqp_url)
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import pika
import pika.exceptions
import requests
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from broker import node_guard
from broker.loopback_ports import LOOPBACK, free_ports, is_free
from broker.node_files import USERNAME, NodeFolder, NodeSettings
from broker.node_streams import wait_for_streams
from broker.users import url_of
from schemas.errors import NodeError
from schemas.permissions import BrokerUser

DEBIAN_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server itself. The one in /usr/sbin is a wrapper that insists on the user `rabbitmq`."""

HOURS_OF_A_LONG_FOLD = 14 * 24.0
STOP_GRACE = 30.0
"""Seconds for a clean stop. 3.10 takes 6, five of them waiting for its management plugin."""

STREAMS_GRACE = 10.0
"""Seconds that a node which has just started has for its streams, before it is stopped."""

START_ATTEMPTS = 3


@dataclass(frozen=True)
class NodeAddress:
    """Where a running node is, and how to log in. Its repr does not show the password."""

    amqp_url: str = field(repr=False)
    management_url: str
    username: str
    password: str = field(repr=False)
    name: str
    amqp_port: int
    management_port: int
    users: Mapping[BrokerUser, str] = field(repr=False)
    """AMQP URLs of datarun's users; `amqp_url` is the administrator's."""

    pid: int
    """The broker itself; `epmd_pid` and `guard_pid` are its companions."""

    epmd_pid: int
    guard_pid: int


class PrivateNode:
    """Starts, stops and restarts the node whose data are in the folder `home`.

    A folder that has been used keeps its messages, its password and, where they are free, its
    ports. Not for use from several threads at once.
    """

    def __init__(
        self,
        home: Path,
        *,
        consumer_timeout_hours: float = HOURS_OF_A_LONG_FOLD,
        server: Path | None = None,
        configuration: tuple[str, ...] = (),
    ) -> None:
        """configuration: further lines of rabbitmq.conf."""
        self._folder = NodeFolder(Path(home))
        self._consumer_timeout_ms = int(consumer_timeout_hours * 3_600_000)
        self._server = server
        self._configuration = configuration
        self._guard: subprocess.Popen[bytes] | None = None
        self._address: NodeAddress | None = None

    def __enter__(self) -> NodeAddress:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def address(self) -> NodeAddress:
        """Where the node is; raises NodeError if it is not running."""
        if self._address is None or not self.is_running():
            raise NodeError(f"the RabbitMQ node in {self._folder.home} is not running")
        return self._address

    def is_running(self) -> bool:
        """Whether the node has been started here and has not ended since."""
        return self._guard is not None and self._guard.poll() is None

    def start(self, *, deadline: float = 60) -> NodeAddress:
        """Start the node, and return once it takes connections.

        Args:
            deadline: seconds.

        Raises:
            NodeError: RabbitMQ is not installed, another process runs this node, or it did not
                come up; then with the end of its log.
        """
        if self.is_running():
            return self.address
        until = time.monotonic() + deadline
        server, epmd = str(self._server or find_server()), find_program("epmd")
        find_program("setpriv")
        try:
            self._folder.make()
            lock = self._lock(until)
        except OSError as error:
            raise NodeError(
                f"the folder {self._folder.home} of the RabbitMQ node cannot be used: {error}"
            ) from error
        try:
            for attempt in range(1, START_ATTEMPTS + 1):
                settings = choose_settings(self._folder.settings())
                self._folder.write(settings, self._consumer_timeout_ms, self._configuration)
                try:
                    return self._start_once(settings, server, epmd, lock, until)
                except NodeError:
                    self.stop(clean=False)
                    # Whoever took one of the ports since they were chosen still has it.
                    if attempt == START_ATTEMPTS or all(map(is_free, settings.ports)):
                        raise
                except BaseException:
                    self.stop(clean=False)
                    raise
            raise AssertionError("unreachable")
        finally:
            os.close(lock)  # guard and node have inherited it

    def stop(self, *, clean: bool = True) -> None:
        """Stop the node and everything that belongs to it. Does nothing if it is not running.

        Args:
            clean: false where nobody will start this folder again: kills instead of waiting
                for the clean stop, which takes 6 seconds on RabbitMQ 3.10.
        """
        guard, self._guard = self._guard, None
        address, self._address = self._address, None
        if guard is None:
            return
        if address is not None and guard.poll() is None:
            if clean:
                wait_for_streams(address.amqp_url, address.management_url, seconds=STREAMS_GRACE)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(address.pid, signal.SIGKILL)
        guard.terminate()
        try:
            guard.wait(STOP_GRACE + 10)
        except subprocess.TimeoutExpired:
            # The node is told by the kernel when its guard is gone.
            guard.kill()
            guard.wait()
            raise NodeError(
                f"the RabbitMQ node in {self._folder.home} did not stop within "
                f"{STOP_GRACE + 10:.0f} s and was killed\n{self._folder.log_tail()}"
            ) from None

    def kill(self) -> None:
        """End the node without warning, as a crash does; `start` brings it back."""
        address = self.address
        guard, self._guard, self._address = self._guard, None, None
        assert guard is not None
        # The guard has not waited for it before it is gone, so the number is still the node's.
        os.kill(address.pid, signal.SIGKILL)
        guard.wait(STOP_GRACE)

    def _lock(self, until: float) -> int:
        """Take the folder. A node whose owner was killed may still be stopping: wait for it."""
        patience = min(until, time.monotonic() + 15)
        while (descriptor := self._folder.lock()) is None:
            if time.monotonic() > patience:
                raise NodeError(
                    f"another process runs the RabbitMQ node in {self._folder.home}; stop that "
                    "one first, or use another folder"
                )
            time.sleep(0.1)
        return descriptor

    def _start_once(
        self, settings: NodeSettings, server: str, epmd: str, lock: int, until: float
    ) -> NodeAddress:
        epmd_command = [epmd, "-address", LOOPBACK, "-port", str(settings.epmd_port)]
        command = [
            *(sys.executable, "-I", "-S", node_guard.__file__),
            *(str(os.getpid()), str(STOP_GRACE)),
            # Or epmd refuses requests that it takes for a stranger's.
            json.dumps([*epmd_command, "-relaxed_command_check"]),
            json.dumps([server]),
        ]
        self._folder.begin_logs()
        with self._folder.startup_log.open("wb") as log:
            guard = subprocess.Popen(
                command,
                env=self._folder.environment(settings) | {"DATARUN_NODE_LOCK_FD": str(lock)},
                cwd=self._folder.home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=[lock],
                # Ctrl-C in a terminal is for the owner, who then stops the node in its own order.
                start_new_session=True,
            )
        self._guard = guard
        assert guard.stdout is not None
        with guard.stdout as answer:
            line = answer.readline()
        if not line:
            raise self._not_started("its companion epmd did not start")
        pids: dict[str, int] = json.loads(line)
        password = self._folder.password()
        login = f"{USERNAME}:{password}@{LOOPBACK}"
        amqp_url = f"amqp://{login}:{settings.amqp_port}/%2F"
        self._address = NodeAddress(
            amqp_url=amqp_url,
            management_url=f"http://{LOOPBACK}:{settings.management_port}",
            username=USERNAME,
            password=password,
            name=settings.name,
            amqp_port=settings.amqp_port,
            management_port=settings.management_port,
            users={
                user: url_of(user, secret, amqp_url)
                for user, secret in self._folder.user_passwords().items()
            },
            pid=pids["node"],
            epmd_pid=pids["epmd"],
            guard_pid=guard.pid,
        )
        while not is_ready(self._address):
            if guard.poll() is not None:
                raise self._not_started("it ended by itself")
            if time.monotonic() > until:
                raise self._not_started("it was not ready within the deadline")
            time.sleep(0.05)
        return self._address

    def _not_started(self, why: str) -> NodeError:
        return NodeError(
            f"the RabbitMQ node in {self._folder.home} did not start: {why}\n"
            f"{self._folder.log_tail()}"
        )


def find_server() -> Path:
    """The installed RabbitMQ server; raises NodeError if there is none."""
    if DEBIAN_SERVER.exists():
        return DEBIAN_SERVER
    found = shutil.which("rabbitmq-server")
    if found is None:
        raise NodeError(
            "rabbitmq-server is not installed: run scripts/bootstrap, or "
            "apt-get install rabbitmq-server"
        )
    return Path(found)


def find_program(name: str) -> str:
    """The path of `epmd` or `setpriv`; raises NodeError naming the package that brings it."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/bin")
    if found is None:
        package = {"epmd": "erlang-base", "setpriv": "util-linux"}[name]
        raise NodeError(f"{name} is not installed: apt-get install {package}")
    return found


def choose_settings(kept: NodeSettings | None) -> NodeSettings:
    """Name and ports of the next start: those of the last one, apart from ports now taken."""
    if kept is None:
        name = f"datarun-{secrets.token_hex(6)}@localhost"
        return NodeSettings(name, *free_ports(4))
    spare = iter(free_ports(4, avoid=kept.ports))
    amqp, management, distribution, epmd = (
        port if is_free(port) else next(spare) for port in kept.ports
    )
    return replace(
        kept,
        amqp_port=amqp,
        management_port=management,
        distribution_port=distribution,
        epmd_port=epmd,
    )


def is_ready(address: NodeAddress) -> bool:
    """Whether the node takes work: AMQP lets us in, and its management API answers in its name."""
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy, no .netrc: this is loopback
            session.auth = (address.username, address.password)
            overview = session.get(f"{address.management_url}/api/overview", timeout=2)
        if not overview.ok or overview.json()["node"] != address.name:
            return False
        # The AMQP listener opens last, and pika logs every refusal as an error.
        if ("amqp", address.amqp_port) not in {
            (listener["protocol"], listener["port"]) for listener in overview.json()["listeners"]
        }:
            return False
        parameters = pika.URLParameters(address.amqp_url + "?socket_timeout=2&stack_timeout=5")
        pika.BlockingConnection(parameters).close()
    except (OSError, ValueError, KeyError, requests.RequestException):
        return False  # JSON that is not a node's: another program answers at this port
    except (pika.exceptions.AMQPError, AMQPConnectorException):
        return False
    return True
