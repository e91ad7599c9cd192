"""One private RabbitMQ node for all tests, and a virtual host of its own for each."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from broker.private_node import NodeAddress, PrivateNode
from broker.users import rights_definitions
from schemas.permissions import BrokerUser

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Logins:
    """AMQP URLs of one virtual host: of datarun's users, and of an administrator.

    Services and clients log in as the users, and so does a test that plays one. The administrator
    declares what is shared, and is who a test is when it does an operator's work or an attacker's.
    """

    admin: str = field(repr=False)
    users: Mapping[BrokerUser, str] = field(repr=False)

    @classmethod
    def of_node(cls, node: NodeAddress) -> Logins:
        """On the virtual host that a node comes with."""
        return cls(node.amqp_url, node.users)

    @classmethod
    def of_nobody(cls) -> Logins:
        """For services that need no broker, and shall find none."""
        url = "amqp://nobody:nothing@127.0.0.1:1/"
        return cls(url, dict.fromkeys(BrokerUser, url))

    def of(self, user: BrokerUser) -> str:
        """The URL of one user."""
        return self.users[user]

    def changed(self, change: Callable[[str], str]) -> Logins:
        """The same logins with other URLs."""
        return Logins(change(self.admin), {user: change(url) for user, url in self.users.items()})

    def through(self, port: int) -> Logins:
        """The same host, reached through a proxy that listens on `port` of this machine."""
        return self.changed(lambda url: re.sub(r":[0-9]+/", f":{port}/", url))


@dataclass(frozen=True)
class Vhost:
    """A virtual host: empty when a test gets it, gone with all its queues afterwards."""

    name: str
    node: NodeAddress
    logins: Logins

    @property
    def admin_url(self) -> str:
        """The administrator's: for `datarun up` and `broker setup`, and what operators do."""
        return self.logins.admin

    def api(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Ask the management API, for instance `api("GET", "/api/overview")`; checks the status."""
        return management(self.node, method, path, **arguments)

    def connections(self, user: BrokerUser | None = None) -> list[str]:
        """Names of the open connections to this host, as the management API knows them."""
        rows = self.api("GET", f"/api/vhosts/{quote(self.name, safe='')}/connections").json()
        return [row["name"] for row in rows if user in (None, row.get("user"))]

    def close_connections(self) -> int:
        """Have the broker close every connection to this host; how many there were."""
        names = self.connections()
        for name in names:
            management(self.node, "DELETE", f"/api/connections/{quote(name, safe='')}", gone=True)
        return len(names)


def management(
    node: NodeAddress, method: str, path: str, *, gone: bool = False, **arguments: Any
) -> requests.Response:
    """One request to a node's management API; `gone` accepts a 404."""
    with requests.Session() as session:
        session.trust_env = False
        session.auth = (node.username, node.password)
        answer = session.request(method, node.management_url + path, timeout=20, **arguments)
    if not (gone and answer.status_code == 404):
        answer.raise_for_status()
    return answer


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[NodeAddress]:
    """A private node that all tests share: use `vhost`, and start another one to break it."""
    home = Path(tempfile.mkdtemp(prefix="datarun-test-rabbitmq-"))
    node = PrivateNode(home)
    try:
        yield node.start()
    finally:
        node.stop(clean=False)  # nobody will read its data again
        shutil.rmtree(home)


@contextlib.contextmanager
def new_vhost(node: NodeAddress) -> Iterator[Vhost]:
    """A virtual host, empty at first and deleted in the end."""
    name = f"test-{next(_numbers)}"
    rights = rights_definitions(name)
    everything = dict.fromkeys(("configure", "write", "read"), ".*")
    rights["permissions"].append({"user": node.username, "vhost": name, **everything})
    management(node, "PUT", f"/api/vhosts/{name}")
    management(node, "POST", "/api/definitions", json=rights)
    logins = Logins.of_node(node).changed(lambda url: url.replace("/%2F", f"/{name}"))
    yield Vhost(name, node, logins)
    management(node, "DELETE", f"/api/vhosts/{name}", gone=True)


@pytest.fixture
def vhost(rabbitmq: NodeAddress) -> Iterator[Vhost]:
    """A virtual host for this test alone."""
    with new_vhost(rabbitmq) as made:
        yield made
