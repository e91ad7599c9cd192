"""What the gateway has accepted is done once, whatever dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost
from tests.support.rest import packed, packed_rows
from tests.support.stack import RestClient, Stack
from tests.support.submissions import DUMMY, write_iris
from tests.support.tcp_proxy import TcpProxy

KILLS = 20


def register_iris(client: RestClient, folder: Path) -> int:
    """iris, registered and to be split; its id."""
    answer = client.post(
        "rawdata/",
        name="iris",
        target_column="species",
        workflow_elements="classifier",
        files={"iris.csv": packed(write_iris(folder).read_bytes())},
    )
    raw_data_id = int(answer.json()["id"])
    client.post("rawdata/split/", raw_data_id=raw_data_id, held_out_test=0.5)
    return raw_data_id


def fold(raw_data_id: int, fold_id: int, code: str = DUMMY) -> dict[str, object]:
    """The body of a fold."""
    return {
        "databoard_sf_id": fold_id,
        "databoard_s_id": 1,
        "raw_data": raw_data_id,
        "files": {"classifier.py": packed(code)},
        "train_is": packed_rows(np.arange(60)),
        "test_is": packed_rows(np.arange(60, 75)),
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_gateway_killed_between_commit_and_answer_loses_and_doubles_no_fold(
    stack: Stack, tmp_path: Path
) -> None:
    # Given a stack, and a submission that notes each time it is trained
    stack.start_all()
    client = stack.start_gateway()
    port = int(client.url.rstrip("/").rpartition(":")[2])
    raw_data_id = register_iris(client, tmp_path)
    notes = tmp_path / "notes"
    notes.mkdir()
    code = f"import tempfile; tempfile.mkstemp(dir={str(notes)!r})\n{DUMMY}"

    # When the gateway is killed as soon as a fold is in the database, twenty times
    answers: dict[int, int] = {}
    for fold_id in range(1, KILLS + 1):

        def post(client: RestClient = client, fold_id: int = fold_id) -> None:
            try:
                body = fold(raw_data_id, fold_id, code)
                answers[fold_id] = client.post("submissionfold/", **body).status_code
            except requests.RequestException:
                answers[fold_id] = 0

        posting = threading.Thread(target=post)
        posting.start()
        query = f"SELECT run_id FROM folds WHERE submission_fold_id = {fold_id}"
        wait_until(lambda query=query: stack.rows(query), every=0.0, within=30)
        client.service.kill()
        posting.join(60)
        client = stack.start_gateway(port)

    # Then every fold ends, each by one run that trained once, also those without an answer
    client.wait_until_ended(*range(1, KILLS + 1), within=90)
    states = [row["state"] for row in client.get("submissionfold-light/").json()]
    assert states == ["TESTED"] * KILLS
    assert len(list(notes.iterdir())) == KILLS
    assert len(stack.rows("SELECT run_id FROM runs")) == KILLS
    assert set(answers) == set(range(1, KILLS + 1))

    # And a client that posts again what was not answered is told that it is there
    assert client.post("submissionfold/", **fold(raw_data_id, 1, code)).status_code == 400


def test_fold_is_accepted_while_rabbitmq_is_away_and_runs_when_it_is_back(
    vhost: Vhost, proxy: Callable[[int], TcpProxy], postgres_url: str, tmp_path: Path
) -> None:
    # Given a stack on PostgreSQL that reaches RabbitMQ through a line that can be cut
    line = proxy(vhost.node.amqp_port)
    stack = Stack(vhost.logins.through(line.port), postgres_url, tmp_path)
    try:
        stack.start_all()
        client = stack.start_gateway()
        raw_data_id = register_iris(client, tmp_path)
        client.post("submissionfold/", **fold(raw_data_id, 1))
        client.wait_until_ended(1)

        # When it is cut, and a fold and a split are posted
        line.cut()
        answer = client.post("submissionfold/", **fold(raw_data_id, 2))
        split = client.post("rawdata/split/", raw_data_id=raw_data_id, held_out_test=0.2)

        # Then both are accepted, and shown
        assert (answer.status_code, split.status_code) == (201, 200)
        assert client.state_of(2) == "TODO"

        # And done when RabbitMQ is back, with those that are posted for the later split
        assert client.post("submissionfold/", **fold(raw_data_id, 3)).status_code == 201
        line.mend()
        client.wait_until_ended(2, 3, within=90)
        shapes = [
            client.get(f"submissionfold/{fold_id}/").json()["shape"]["test_predictions"]
            for fold_id in (2, 3)
        ]
        assert shapes == [[75, 3], [30, 3]]
    finally:
        stack.close()
