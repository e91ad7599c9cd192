"""The folder of a private RabbitMQ node: its name, ports and password, and what RabbitMQ reads."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from broker.loopback_ports import LOOPBACK
from broker.private_file import write_private
from broker.users import (
    Definitions,
    new_password,
    rights_definitions,
    user_definition,
    users_definitions,
)
from schemas.errors import NodeError
from schemas.permissions import BrokerUser

USERNAME = "datarun"


@dataclass(frozen=True)
class NodeSettings:
    """What a node keeps from one start to the next, apart from its password."""

    name: str
    """Erlang's name of the node, unique on this machine; its data are filed under it."""

    amqp_port: int
    management_port: int
    distribution_port: int
    epmd_port: int

    @property
    def ports(self) -> tuple[int, int, int, int]:
        """All four, in the order of the fields."""
        return (self.amqp_port, self.management_port, self.distribution_port, self.epmd_port)


class NodeFolder:
    """`home` of a private node. Private to its owner: it holds the password and the messages."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.log_folder = self.home / "log"
        self.startup_log = self.home / "startup.log"
        self._settings = self.home / "node.json"
        self._password = self.home / "password"
        self._user_passwords = self.home / "users.json"
        self._log_begins: dict[Path, int] = {}

    def make(self) -> None:
        """Make the folders that are missing."""
        for folder in (self.home, self.log_folder, self.home / "erlang", self.home / "data"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.chmod(0o700)

    def lock(self) -> int | None:
        """A descriptor that holds this folder for one node; None while another one lives here."""
        descriptor = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def password(self) -> str:
        """The node's password, made at first use, in a file of mode 0600."""
        if not self._password.exists():
            write_private(self._password, new_password())
        return self._password.read_text().strip()

    def user_passwords(self) -> dict[BrokerUser, str]:
        """Those of datarun's users, made at first use, in a file of mode 0600."""
        try:
            kept = json.loads(self._user_passwords.read_text())
        except FileNotFoundError:
            kept = {}
        except ValueError as error:
            raise NodeError(f"{self._user_passwords} is damaged ({error}); remove it") from error
        passwords = {user: kept.get(user) or new_password() for user in BrokerUser}
        if passwords != kept:
            write_private(self._user_passwords, json.dumps(passwords, indent=2))
        return passwords

    def settings(self) -> NodeSettings | None:
        """What an earlier start has kept, if there was one."""
        try:
            return NodeSettings(**json.loads(self._settings.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise NodeError(
                f"{self._settings} is damaged ({error}); remove the folder {self.home} to start "
                "with an empty node"
            ) from error

    def write(
        self, settings: NodeSettings, consumer_timeout_ms: int, more: tuple[str, ...] = ()
    ) -> None:
        """Write what RabbitMQ reads when it starts; `more` are lines for rabbitmq.conf."""
        write_private(self._settings, json.dumps(asdict(settings), indent=2))
        write_private(self.home / "enabled_plugins", "[rabbitmq_management].\n")
        write_private(self.home / "advanced.config", "[].\n")
        # Also where /etc/hosts lacks the line, as in containers: without it the boot fails.
        write_private(
            self.home / "inetrc",
            '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n',
        )
        write_private(self.home / "definitions.json", json.dumps(self._definitions()))
        # https://www.rabbitmq.com/docs/configure
        write_private(
            self.home / "rabbitmq.conf",
            f"listeners.tcp.1 = {LOOPBACK}:{settings.amqp_port}\n"
            f"management.tcp.ip = {LOOPBACK}\n"
            f"management.tcp.port = {settings.management_port}\n"
            f"load_definitions = {self.home}/definitions.json\n"
            # Global, because 3.10 ignores the queue argument.
            f"consumer_timeout = {consumer_timeout_ms}\n"
            "log.file.rotation.size = 10485760\n"
            "log.file.rotation.count = 2\n" + "".join(f"{line}\n" for line in more),
        )
        cookie = self.home / "erlang" / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, secrets.token_hex(20), mode=0o400)

    def environment(self, settings: NodeSettings) -> dict[str, str]:
        """The whole environment of the node: nothing of the caller's but its PATH.

        A RABBITMQ_ or ERL_ variable of somebody's system-wide node would end up in ours.
        """
        home = str(self.home)
        return {
            "PATH": os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",  # or Erlang reads a folder's name as latin-1
            "HOME": f"{home}/erlang",
            "ERL_INETRC": f"{home}/inetrc",
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(settings.epmd_port),
            "RABBITMQ_NODENAME": settings.name,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(settings.amqp_port),
            "RABBITMQ_DIST_PORT": str(settings.distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": "/nonexistent",
            "RABBITMQ_PID_FILE": f"{home}/rabbitmq.pid",
            # RabbitMQ's default binds each scheduler to a core, as if it had the machine to itself:
            # the busiest ones of two nodes would share a core, and it with a fold.
            # https://www.erlang.org/doc/apps/erts/erl_cmd.html (+sbt)
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            # Without it the distribution port listens on every address of the machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # Makes the script exec the node instead of waiting for it: one pid for both.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def begin_logs(self) -> None:
        """The node is about to be started: what its logs say so far is of earlier runs."""
        self.startup_log.unlink(missing_ok=True)
        self._log_begins = {log: log.stat().st_size for log in self.log_folder.glob("*.log")}

    def log_tail(self, lines: int = 20) -> str:
        """The end of what the node said last, since `begin_logs`, for an error message."""
        logs = [self.startup_log, *self.log_folder.glob("*.log")]
        newest = sorted(
            (log for log in logs if log.exists() and log.stat().st_size > self._begin(log)),
            key=lambda log: log.stat().st_mtime,
        )[-2:]
        return "\n".join("\n".join([f"--- {log}", *self._said(log)[-lines:]]) for log in newest)

    def _begin(self, log: Path) -> int:
        return self._log_begins.get(log, 0)

    def _said(self, log: Path) -> list[str]:
        return log.read_bytes()[self._begin(log) :].decode("utf-8", "replace").splitlines()

    def _definitions(self) -> Definitions:
        """One administrator, and so no guest, and datarun's users. Definitions are read at each
        start, not only at the first like `default_pass`, so that the files with the passwords
        always tell the truth; and they hold hashes.
        """
        users = users_definitions(self.user_passwords())
        rights = rights_definitions("/")
        everything = {
            "user": USERNAME,
            "vhost": "/",
            "configure": ".*",
            "write": ".*",
            "read": ".*",
        }
        return {
            "users": [
                user_definition(USERNAME, self.password(), ("administrator",)),
                *users["users"],
            ],
            "vhosts": [{"name": "/"}],
            "permissions": [everything, *rights["permissions"]],
            "topic_permissions": rights["topic_permissions"],
        }
