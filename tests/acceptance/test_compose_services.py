"""Every command and every health check of docker-compose.yml, run outside of a container."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from broker.private_node import PrivateNode
from tests.support.composed import Composed
from tests.support.deadline import wait_until
from tests.support.pages import Reader, run_by
from tests.support.postgres import PostgresServer
from tests.support.strict import require_strict

START, USE = run_by(__file__, "docs/containers.md")
LASTING = ["prepare", "folds", "collector", "gateway"]


@pytest.fixture
def node() -> Iterator[PrivateNode]:
    """RabbitMQ of its own, since it is killed."""
    home = Path(tempfile.mkdtemp(prefix="datarun-test-rabbitmq-"))
    made = PrivateNode(home)
    made.start()
    yield made
    made.stop(clean=False)
    shutil.rmtree(home)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """PostgreSQL of its own, since it is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="datarun-test-postgres-"))
    made = PostgresServer(folder)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture
def composed(node: PrivateNode, server: PostgresServer, tmp_path: Path) -> Iterator[Composed]:
    prepare = "\n".join(line for line in START.code.splitlines() if not line.startswith("docker"))
    made = Composed(tmp_path, node.address, server, prepare)
    yield made
    made.close()


@pytest.mark.slow
def test_the_services_work_are_found_healthy_while_they_do_and_ill_when_they_do_not(
    composed: Composed, node: PrivateNode, server: PostgresServer
):
    require_strict()

    def wait_for(*names: str, healthy: bool) -> None:
        for name in names:
            state = "healthy" if healthy else "ill"
            wait_until(
                lambda name=name: composed.is_healthy(name) is healthy,
                within=30,
                every=0.2,
                what=f"{name} being {state}",
            )

    # Given the page's commands for an engine, which another one carries out here
    typed = [shlex.split(line, comments=True) for line in START.code.splitlines()]
    up, ps, add_user = (words[2:] for words in typed if words[:2] == ["docker", "compose"])
    assert up[0] == "up"
    assert up[up.index("--scale") + 1].partition("=")[0] in composed.services
    assert ps == ["ps"]
    assert (composed.clone / ".env").exists()

    # Given what the others depend on: two that are healthy, two that have ended well
    wait_for("rabbitmq", "postgres", healthy=True)
    for once in ("setup", "users"):
        assert composed.start(once).wait(60) == 0, composed.log(once)

    # When the others are started
    for name in LASTING:
        composed.start(name)

    # Then each is healthy soon
    wait_for(*LASTING, healthy=True)

    # And no secret is in an environment or in an argument
    for name in LASTING:
        seen = composed.seen_from_outside(name)
        assert composed.secret("postgres_password") not in seen
        assert node.address.password not in seen

    # And they do the work, at level strict, for whoever publishes as the page says
    (composed.clone / "secrets/broker_client").write_text(composed.secret("broker_client"))
    reader = Reader(composed.folder / "reader")
    reader.place = composed.clone
    said = reader.do([USE])
    assert re.search(r"logistic +tulips +2 tested ", said), said
    assert "isolation: strict" in composed.log("folds")

    # And a user who is added in the gateway's container is let in
    execute, service, *command = add_user
    assert execute == "exec"
    added = composed.run(service, *command, "--json")
    assert added.returncode == 0, added.stderr
    password = json.loads(added.stdout)["password"]
    url = f"http://127.0.0.1:{composed.gateway_port}/runapp/rawdata/"
    assert requests.get(url, auth=("olga", password), timeout=10).status_code == 200

    # When PostgreSQL is stopped, then whoever needs it is ill, and the workers are not
    server.stop()
    wait_for("postgres", "gateway", "collector", healthy=False)
    wait_for("prepare", "folds", healthy=True)

    # And all are healthy again when it is back
    server.start()
    wait_for("postgres", "gateway", "collector", healthy=True)

    # When services are stopped, then they are ill at once
    for name in ("gateway", "collector", "prepare"):
        assert composed.stop(name) == 0, composed.log(name)
        assert composed.health(name).returncode == 1

    # And when RabbitMQ is gone, a worker that lives and cannot work is, too
    node.kill()
    wait_for("rabbitmq", "folds", healthy=False)
