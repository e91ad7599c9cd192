"""RabbitMQ's console: its HTTP API is given what a person types into its pages, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas.asyncapi.flowers import CLASSIFIER
from schemas.states import DatasetState, FoldState
from schemas.topology import (
    DEAD_LETTERS_QUEUE,
    REASON_HEADER,
    SOURCE_HEADER,
    WORK,
    folds_queue,
    topology,
)
from tests.support.deadline import wait_until
from tests.support.pages import Reader, run_by
from tests.support.wire import IDLE_POOL, Wire

WITHIN = 60


def fold(fold_id: int, **fields: Any) -> str:
    content = {
        "submission_fold_id": fold_id,
        "submission_id": 201,
        "dataset": "tulips",
        "files": {"classifier.py": CLASSIFIER},
        "train_is": [0, 1, 2, 3],
        "test_is": [4, 5],
    }
    return json.dumps(content | fields)


def dead_letter(wire: Wire, about: str) -> dict[str, Any]:
    """The dead letter whose body says `about`, as "Get messages" shows it."""

    def found() -> list[dict[str, Any]]:
        return [row for row in wire.console.get(DEAD_LETTERS_QUEUE) if about in row["payload"]]

    return wait_until(found, within=WITHIN, what=f"a dead letter about {about}")[0]


def test_exchanges_and_queues_are_shown_under_the_names_of_the_documents(wire: Wire) -> None:
    declared = topology(pools=("default", IDLE_POOL))
    assert wire.console.names("exchanges") >= {exchange.name for exchange in declared.exchanges}
    assert wire.console.names("queues") >= {queue.name for queue in declared.queues}


def test_the_data_set_and_the_fold_of_the_page_get_their_verdicts(
    wire: Wire, tmp_path: Path
) -> None:
    # Given what docs/console.md has people type: the file as text, rows as lists
    *typed, command = run_by(__file__, "docs/console.md")
    assert [block.marks["key"] for block in typed] == ["data", "folds.default"]

    # When it is typed into the page of the exchange, one right after the other
    for block in typed:
        assert wire.console.publish(WORK, block.marks["key"], block.code)

    # Then both are done
    def tested() -> bool:
        folds = list(wire.client.folds([4001]))
        return bool(folds) and folds[0].state.is_terminal

    wait_until(tested, within=WITHIN, what="the verdict")
    [result] = wire.client.follow([4001], timeout=WITHIN)
    assert result.state is FoldState.TESTED, result.log_messages
    [dataset] = wire.client.datasets("tulips")
    assert (dataset.state, dataset.n_train, dataset.n_test) == (DatasetState.READY, 6, 2)

    # And the page's command shows the verdict
    said = Reader(tmp_path, DATARUN_BROKER=wire.vhost.admin_url).do([command])
    assert "4001" in said
    assert "TESTED" in said


def test_a_mistyped_routing_key_is_a_dead_letter(wire: Wire) -> None:
    assert wire.console.publish(WORK, "fold.default", fold(2006))
    headers = dead_letter(wire, '"submission_fold_id": 2006')["properties"]["headers"]
    assert "routing key 'fold.default' implies none" in headers[REASON_HEADER]
    assert headers[SOURCE_HEADER] == "fold.default"


def test_results_are_acknowledged_by_hand(wire: Wire) -> None:
    # Given a fold whose failure is stored
    assert wire.console.publish(WORK, "folds.default", fold(2002, train_is=[]))

    def is_new() -> bool:
        return [row.new for row in wire.client.folds([2002])] == [True]

    wait_until(is_new, within=WITHIN, what="the fold's failure")

    # When it is acknowledged
    assert wire.console.publish(WORK, "acknowledge", '{"submission_fold_ids": [2002]}')

    # Then it is no longer new
    wait_until(lambda: not is_new(), within=WITHIN, what="the acknowledgement")


def test_a_waiting_fold_can_be_read_in_its_queue_and_stays_there(wire: Wire) -> None:
    # Given a fold for a pool that has no worker
    assert wire.console.publish(WORK, f"folds.{IDLE_POOL}", fold(2003, pool=IDLE_POOL))

    # When "Get messages" shows it, twice
    seen = [
        json.loads(row["payload"])
        for _ in range(2)
        for row in wire.console.get(folds_queue(IDLE_POOL))
        if '"submission_fold_id": 2003' in row["payload"]
    ]

    # Then it is plain JSON, as it was typed
    assert seen == [json.loads(fold(2003, pool=IDLE_POOL))] * 2

    # And cancelling it by hand ends it
    assert wire.console.publish(WORK, "cancel", '{"submission_fold_ids": [2003]}')
    [result] = wire.client.follow([2003], timeout=WITHIN)
    assert result.state is FoldState.CANCELLED


def test_what_our_client_sends_is_readable_too(wire: Wire) -> None:
    # Given a fold that our client publishes for a pool without worker
    wire.client.publish_fold(**json.loads(fold(2004, pool=IDLE_POOL)))

    # When "Get messages" shows it
    rows = wire.console.get(folds_queue(IDLE_POOL))
    [row] = [row for row in rows if '"submission_fold_id":2004' in row["payload"]]

    # Then the code can be read as it is, and the properties name the message
    content = json.loads(row["payload"])
    assert content["files"]["classifier.py"]["data"] == CLASSIFIER
    assert content["train_is"]["shape"] == [4]
    assert row["properties"]["type"] == "datarun.fold.v1"
    assert row["properties"]["priority"] == 1


def test_a_bad_message_goes_to_the_dead_letters_with_a_reason(wire: Wire) -> None:
    # When somebody mistypes a fold
    assert wire.console.publish(WORK, "folds.default", fold(2005, train_is=[0, 1, 1]))

    # Then the dead letter has the body as it was typed, and headers that say what is wrong
    letter = dead_letter(wire, '"submission_fold_id": 2005')
    assert json.loads(letter["payload"])["train_is"] == [0, 1, 1]
    headers = letter["properties"]["headers"]
    assert headers[REASON_HEADER] == "not a datarun.fold.v1 message: train_is: index 1 is repeated"
    assert headers[SOURCE_HEADER] == "folds.default"

    # And the fold has a verdict that says so, too
    [result] = wire.client.follow([2005], timeout=WITHIN)
    assert result.state is FoldState.ERROR
    assert "index 1 is repeated" in result.log_messages
