"""Every command and every health check of docker-compose.yml, run outside of a container."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from broker.private_node import PrivateNode
from datarun import Client, HoldOut
from datarun.demo.datasets import write_iris
from tests.support.composed import Composed
from tests.support.deadline import wait_until
from tests.support.postgres import PostgresServer
from tests.support.strict import require_strict

LASTING = ["prepare", "folds", "collector", "gateway"]
SUBMISSION = Path(__file__).parents[2] / "datarun/demo/submissions/random_forest"


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
    made = Composed(tmp_path, node.address, server)
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

    # And they do the work, at level strict
    with Client(composed.secret("broker_client"), timeout=30) as client:
        client.publish_data(
            "iris",
            files=[write_iris(composed.folder)],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.2, random_state=42),
        )
        report = client.cross_validate(SUBMISSION, dataset="iris", cv=2, timeout=60)
    assert [result.state for result in report.results] == ["TESTED", "TESTED"]
    assert "isolation: strict" in composed.log("folds")

    # And a user who is added in the gateway's container is let in
    added = composed.run("gateway", "datarun", "users", "add", "olga", "--json")
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
