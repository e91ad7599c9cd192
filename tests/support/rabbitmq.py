"""One private RabbitMQ node for all tests, and a virtual host of its own for each."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from broker.private_node import NodeAddress, PrivateNode

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Vhost:
    """A virtual host: empty when a test gets it, gone with all its queues afterwards."""

    name: str
    node: NodeAddress
    amqp_url: str = field(repr=False)

    def amqp_url_through(self, port: int) -> str:
        """The same host, reached through a proxy that listens on `port` of this machine."""
        return self.amqp_url.replace(f":{self.node.amqp_port}/", f":{port}/")

    def api(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Ask the management API, for instance `api("GET", "/api/overview")`; checks the status."""
        return management(self.node, method, path, **arguments)

    def connections(self) -> list[str]:
        """Names of the open connections to this host, as the management API knows them."""
        rows = self.api("GET", f"/api/vhosts/{quote(self.name, safe='')}/connections").json()
        return [row["name"] for row in rows]

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
    management(node, "PUT", f"/api/vhosts/{name}")
    management(
        node,
        "PUT",
        f"/api/permissions/{name}/{node.username}",
        json={"configure": ".*", "write": ".*", "read": ".*"},
    )
    yield Vhost(name, node, node.amqp_url.replace("/%2F", f"/{name}"))
    management(node, "DELETE", f"/api/vhosts/{name}", gone=True)


@pytest.fixture
def vhost(rabbitmq: NodeAddress) -> Iterator[Vhost]:
    """A virtual host for this test alone."""
    with new_vhost(rabbitmq) as made:
        yield made
