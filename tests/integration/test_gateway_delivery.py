"""A result stops being new when the last byte of its answer was sent, and not before."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from storage.engine import open_engine, upgrade
from tests.support import messages
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Logins
from tests.support.stack import RestClient, Stack
from tests.support.store import Store

FOLDS = 10
COLUMNS = 30_000
"""Ten folds have 20 MB of predictions: far more than the buffers between two processes."""


@pytest.fixture
def stack_without_broker(database_url: str, tmp_path: Path) -> Iterator[Stack]:
    """The gateway needs the database alone."""
    made = Stack(Logins.of_nobody(), database_url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(stack_without_broker: Stack) -> RestClient:
    """A gateway with large results that are new."""
    engine = open_engine(stack_without_broker.database_url)
    upgrade(engine)
    store = Store(engine)
    store.prepare_iris()
    random = np.random.default_rng(0)
    for fold_id in range(1, FOLDS + 1):
        store.take(messages.fold(fold_id, f"run-{fold_id}"))
        predictions = random.random((messages.N_TEST, COLUMNS))
        store.take(messages.success(f"run-{fold_id}", fold_id, test_predictions=predictions))
    engine.dispose()
    return stack_without_broker.start_gateway()


def new_results(stack: Stack) -> int:
    """How many are new."""
    ((count,),) = stack.rows("SELECT COUNT(*) FROM runs WHERE new")
    return int(count)


def ask(client: RestClient, path: str, body: dict[str, object]) -> socket.socket:
    """Ask, and read nothing of the answer but its status."""
    host, port = client.url.removeprefix("http://").rstrip("/").split(":")
    line = socket.create_connection((host, int(port)), timeout=60)
    content = json.dumps(body)
    login = base64.b64encode(":".join(client.auth).encode()).decode()
    line.sendall(
        f"POST /runapp/{path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Basic {login}\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n{content}".encode()
    )
    assert line.recv(12) == b"HTTP/1.1 200"
    return line


def test_result_is_new_until_a_client_has_all_of_it(
    client: RestClient, stack_without_broker: Stack
) -> None:
    # Given those who ask for all results, and go away in the middle of the answer
    folds: dict[str, object] = {"list_submission_fold": list(range(1, FOLDS + 1))}
    for path, body in (("testpredictions/new/", {}), ("testpredictions/list/", folds)):
        line = ask(client, path, body)
        line.recv(1 << 20)
        line.close()

    # When the gateway has done with them, which it has when it stops
    assert client.service.stop() == 0

    # Then all results are still new
    assert new_results(stack_without_broker) == FOLDS

    # Given somebody who is slow
    line = ask(stack_without_broker.start_gateway(), "testpredictions/new/", {})
    received = line.recv(1 << 20)

    # Then nothing is cleared while he reads
    assert new_results(stack_without_broker) == FOLDS

    # And everything once he has all of it
    while piece := line.recv(1 << 20):
        received += piece
    line.close()
    assert received.endswith(b"0\r\n\r\n")
    wait_until(lambda: new_results(stack_without_broker) == 0, what="the acknowledgement")
