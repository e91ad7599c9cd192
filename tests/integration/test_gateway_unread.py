"""Results that somebody asks for and does not read, or may not see."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from storage.engine import open_engine, upgrade
from tests.support import messages
from tests.support.bare_gateway import high_water
from tests.support.rest import CLASSIFIER, Rest
from tests.support.stack import RestClient, Stack
from tests.support.store import Store

FOLDS = 24
COLUMNS = 60_000


def with_large_results(stack: Stack, *, zeros: bool) -> RestClient:
    """A gateway with results of 2 MB each, all new."""
    engine = open_engine(stack.database_url)
    upgrade(engine)
    store = Store(engine)
    store.prepare_iris()
    random = np.random.default_rng(0)
    shape = (messages.N_TEST, COLUMNS)
    for fold_id in range(1, FOLDS + 1):
        store.take(messages.fold(fold_id, f"run-{fold_id}"))
        predictions = np.zeros(shape) if zeros else random.random(shape)
        store.take(messages.success(f"run-{fold_id}", fold_id, test_predictions=predictions))
    engine.dispose()
    return stack.start_gateway()


def new_ones(client: RestClient) -> int:
    """How many folds are new."""
    return sum(fold["new"] for fold in client.get("submissionfold-light/").json())


@pytest.mark.slow
def test_client_that_never_reads_its_answer_clears_nothing(bare_stack: Stack) -> None:
    # Given somebody who asks for all that is new, and reads nothing
    client = with_large_results(bare_stack, zeros=False)
    host, port = client.url.removeprefix("http://").rstrip("/").split(":")
    login = base64.b64encode(":".join(client.auth).encode()).decode()
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(
            f"POST /runapp/testpredictions/new/ HTTP/1.1\r\nHost: gateway\r\n"
            f"Authorization: Basic {login}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        )

        # When others work with the gateway meanwhile, then for them everything is new
        assert new_ones(client) == FOLDS
        answer = client.post("testpredictions/new/?acknowledge=manual")
        assert len(answer.json()) == FOLDS

        # And also once the gateway has ended, with his answer still unread
        assert client.service.stop() == 0
    again = bare_stack.start_gateway()
    assert new_ones(again) == FOLDS


def test_plain_lists_are_made_of_few_folds_at_a_time(bare_stack: Stack) -> None:
    # Given predictions that are nothing where they are stored, and 240,000 numbers each as lists
    client = with_large_results(bare_stack, zeros=True)
    assert client.get("submissionfold-light/").ok
    before = high_water(client)

    # When all are asked for as plain lists
    with client.get("submissionfold/?format=json", stream=True) as answer:
        size = sum(len(piece) for piece in answer.iter_content(1 << 20))

    # Then they come, and were in memory a few at a time (all together take 250 MB)
    assert size > FOLDS * messages.N_TEST * COLUMNS * len("0.0,")
    assert high_water(client) - before < 120 << 20


@pytest.fixture
def private(shared_engine: Engine, tmp_path: Path) -> Rest:
    """A gateway that shows users their own folds only."""
    return Rest(shared_engine, private_submissions=True)


def test_how_a_private_fold_stands_is_nobody_elses_business(private: Rest) -> None:
    # Given a fold of olga's that has ended
    fold = private.first_fold(private.ready())
    private.collect()
    private.finish(fold)

    # When another user asks for it, posts it, or forces it
    files = {"classifier.py": CLASSIFIER}
    answers = [
        private.get("submissionfold/11/", "otto"),
        private.get("submissionfold/11?format=json", "otto"),
        private.fold(11, "otto", raw_data=1, files=files),
        private.fold(11, "otto", raw_data=1, files=files, force="submission_fold"),
    ]

    # Then he is told that it is another user's, and not its state
    for answer in answers:
        assert answer.status_code == 403
        assert "another user" in answer.json()["detail"]
        assert "TESTED" not in answer.text

    # And she is told
    assert private.get("submissionfold/11/").json()["state"] == "TESTED"
    assert "TESTED" in private.fold(11, "olga").json()["detail"]
