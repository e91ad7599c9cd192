"""The services of docker-compose.yml, run outside of containers as they are told to run in them."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from broker.loopback_ports import LOOPBACK, free_ports
from broker.private_node import NodeAddress
from tests.support.compose import ROOT, compose_file, image_environment
from tests.support.postgres import PostgresServer, find_programs
from tests.support.rabbitmq import management

QUICKER = {"DATARUN_HEARTBEAT_SECONDS": "0.5", "DATARUN_WORKER_LOST_AFTER_SECONDS": "2"}
"""The tests' own: as long as it takes by default, nobody would wait."""


class Composed:
    """What an engine makes of the file: a folder, an environment and secrets for each service.

    Hosts and ports of the containers' networks are those of `node` and `server`.
    """

    def __init__(
        self, folder: Path, node: NodeAddress, server: PostgresServer, prepare: str
    ) -> None:
        """prepare: what is typed in the clone before anything is started."""
        self.folder = folder
        self.clone = folder / "clone"
        """With the files that an engine and `prepare` need, and the secrets."""
        self.services: dict[str, Any] = compose_file()["services"]
        self.gateway_port = free_ports(1)[0]
        self._node = node
        self._server = server
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("docker-compose.yml", ".env.example", "containers/make-secrets"):
            (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.clone / name)
        subprocess.run(["bash", "-euc", prepare], cwd=self.clone, check=True, timeout=30)
        self._secrets = self.clone / "secrets"
        self._places = {"@postgres:5432/": f"@{LOOPBACK}:{server.port}/"}
        self._first_start_of_rabbitmq()
        self._first_start_of_postgres()
        # Where these two keep what their command line tools need; read before they are stopped.
        node_environment = Path(f"/proc/{node.pid}/environ").read_bytes().decode().split("\0")
        self._tools: dict[str, dict[str, str]] = {
            "rabbitmq": dict(line.split("=", 1) for line in node_environment if line)
            | {"PATH": f"/usr/lib/rabbitmq/bin:{os.environ['PATH']}"},
            "postgres": {
                "PGPORT": str(server.port),
                "PATH": f"{find_programs()}:{os.environ['PATH']}",
            },
        }

    def secret(self, name: str) -> str:
        """The content of a secret, for these hosts and ports."""
        content = (self._secrets / name).read_text(encoding="utf-8")
        for named, place in self._places.items():
            content = content.replace(named, place)
        return content

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Run a service's command."""
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self._processes[name] = subprocess.Popen(
                self.services[name]["command"],
                cwd=self._home(name),
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._processes[name]

    def health(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a service's health check, once."""
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.run(name, *command)

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec NAME COMMAND...`."""
        environment = self._tools.get(name) or self.environment(name)
        return subprocess.run(
            # Found as a shell does, by the environment's own PATH
            ["env", *command],
            cwd=self.folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def is_healthy(self, name: str) -> bool:
        """Whether the health check says so."""
        assert name not in self._processes or self._processes[name].poll() is None, self.log(name)
        return self.health(name).returncode == 0

    def seen_from_outside(self, name: str) -> str:
        """The environment and the arguments of a service, and of all that it has started."""
        process = psutil.Process(self._processes[name].pid)
        everyone = [process, *process.children(recursive=True)]
        files = [f"/proc/{each.pid}/{kind}" for each in everyone for kind in ("environ", "cmdline")]
        return "".join(Path(file).read_text(encoding="utf-8") for file in files)

    def log(self, name: str) -> str:
        """What a service has said."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self, name: str) -> int:
        """SIGTERM, as `docker compose stop` sends it; the exit status."""
        process = self._processes.pop(name)
        process.terminate()
        return process.wait(60)

    def close(self) -> None:
        """Nothing is left."""
        for process in self._processes.values():
            process.kill()
            process.wait(30)

    def environment(self, name: str) -> Mapping[str, str]:
        """The image's, then the service's, with this machine's folders."""
        given = self.services[name].get("environment") or {}
        # A name without a value is passed on from .env, which says nothing.
        made = {**image_environment(), **{key: value for key, value in given.items() if value}}
        home = self._home(name)
        folders = {
            "/var/lib/datarun": str(home),
            "/run/secrets": str(self._mount_secrets(name)),
            "/tmp": f"{home}/tmp",
            "/opt/datarun/bin": str(Path(sys.executable).parent),
        }
        for key, value in made.items():
            for inside, here in folders.items():
                if value == inside or value.startswith((f"{inside}/", f"{inside}:")):
                    made[key] = here + value.removeprefix(inside)
                    break
        if name == "gateway":
            made["DATARUN_GATEWAY_PORT"] = str(self.gateway_port)
        # In the image our packages are installed.
        return {**made, **QUICKER, "PYTHONPATH": str(ROOT)}

    def _home(self, name: str) -> Path:
        home = self.folder / name
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        return home

    def _mount_secrets(self, name: str) -> Path:
        mounted = self.folder / f"{name}-secrets"
        mounted.mkdir(exist_ok=True)
        for secret in self.services[name].get("secrets", ()):
            (mounted / secret["target"]).write_text(self.secret(secret["source"]))
        return mounted

    def _first_start_of_rabbitmq(self) -> None:
        """As the secret rabbitmq.conf has it; its user, with the node's password, is there."""
        parsed = configparser.ConfigParser()
        parsed.read_string("[conf]\n" + self.secret("rabbitmq.conf"))
        conf = parsed["conf"]
        user, vhost = conf["default_user"], quote(conf["default_vhost"], safe="")
        assert user == self._node.username
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        management(self._node, "PUT", f"/api/vhosts/{vhost}")
        management(self._node, "PUT", f"/api/permissions/{vhost}/{user}", json=everything)
        here = f"{user}:{self._node.password}@{LOOPBACK}:{self._node.amqp_port}/"
        admin = f"{user}:{conf['default_pass']}"
        console = f"{user}:{self._node.password}@{LOOPBACK}:{self._node.management_port}"
        self._places |= {
            f"{admin}@rabbitmq:5672/": here,
            f"{admin}@rabbitmq:15672": console,
            # The users, who have the passwords that were made for them.
            "@rabbitmq:5672/": f"@{LOOPBACK}:{self._node.amqp_port}/",
            "@127.0.0.1:5672/": f"@{LOOPBACK}:{self._node.amqp_port}/",
        }

    def _first_start_of_postgres(self) -> None:
        """As the image does with POSTGRES_USER, POSTGRES_DB and POSTGRES_PASSWORD_FILE."""
        given = self.services["postgres"]["environment"]
        password = self.secret("postgres_password")
        assert given["POSTGRES_USER"] == self._server.user
        self._server.execute(f"CREATE DATABASE {given['POSTGRES_DB']}")
        self._server.execute(f"ALTER ROLE {given['POSTGRES_USER']} PASSWORD '{password}'")
        self._server.password = password
