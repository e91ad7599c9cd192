"""Bad input gets a clear verdict or a clear error at the client; nothing is lost or stuck."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarun import Client, Custom, DataError, HoldOut
from schemas.errors import DatarunError, MessageError
from schemas.states import Culprit, FailureKind, FoldState, Phase
from schemas.topology import DEAD_LETTERS_QUEUE, WORK, folds_queue
from tests.support.deadline import wait_until
from tests.support.rabbitmq import management
from tests.support.stack import Stack
from tests.support.submissions import DUMMY, write_iris

WITHIN = 60
_ids = itertools.count(1)
_names = itertools.count(1)


@pytest.fixture(scope="module")
def client(shared_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with shared_stack.client() as client:
        client.publish_data(
            "iris",
            files=[write_iris(tmp_path_factory.mktemp("iris"))],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=WITHIN,
        )
        yield client


# --- data sets -----------------------------------------------------------------------------------

GOOD = "a,b,label\n" + "".join(f"{i},{i * 2},{i % 2}\n" for i in range(40))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD.replace("label", "other", 1), "label"),
        ("", "empty"),
        (GOOD + "1,2,3,4,5\n", "line 42"),
        (b"\x00\xff\xfe\x01" * 500, "CSV|text|UTF-8|utf-8"),
        (GOOD.replace("a,b,", "a,a,", 1), "'a'"),
        ("a,b,label\n" + "1,2,x\n" * 40, "one class|only one|single"),
        (GOOD.replace("3,6,1", "3,6,", 1), "label"),
        ("a,b,label\n", "row"),
        (GOOD.replace("3,6,1", "oops,6,1", 1), "'a'"),
    ],
    ids=[
        "no target column",
        "empty file",
        "ragged rows",
        "binary file",
        "duplicate column names",
        "one class only",
        "NaN in the target",
        "no rows",
        "text without a feature extractor",
    ],
)
def test_a_bad_csv_file_fails_with_a_verdict_that_names_the_fault(
    client: Client, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        client.publish_data(
            f"bad-{next(_names)}",
            files={"data.csv": content},
            target_column="label",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=WITHIN,
        )
    verdict = caught.value.verdict
    assert verdict is not None
    assert verdict.phase is Phase.DATA
    assert verdict.culprit is Culprit.ORGANISER


def test_a_scorer_that_scikit_learn_lacks_is_the_organisers_fault(client: Client) -> None:
    with pytest.raises(DataError, match="did you mean 'accuracy'") as caught:
        client.publish_data(
            f"bad-{next(_names)}",
            files={"data.csv": GOOD},
            target_column="label",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            scoring=["acuracy"],
            timeout=WITHIN,
        )
    assert caught.value.verdict is not None
    assert caught.value.verdict.culprit is Culprit.ORGANISER


SPECIFIC = """
import numpy as np

def prepare_data(raw_data_path):
    pass

def get_train_data(raw_data_path):
    return np.zeros((20, 2)), np.arange(20) % 2

def get_test_data(raw_data_path):
    return np.zeros((10, 2)), np.arange(10) % 2

def train_submission(module_path, X, y, train_indices):
    return None

def test_submission(trained_model, X, test_indices):
    return np.full((len(test_indices), 2), 0.5)
"""


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (SPECIFIC.replace("def get_test_data", "def get_tst_data"), "get_test_data"),
        (SPECIFIC.replace("def train_submission", "def train"), "train_submission"),
        (SPECIFIC.replace("    pass", "    raise KeyError('no such column')"), "no such column"),
        (SPECIFIC.replace("np.zeros((20, 2))", "np.zeros((19, 2))"), "19.*20|20.*19"),
        (SPECIFIC.replace("import numpy", "import nampy"), "nampy"),
        (SPECIFIC.replace("def prepare_data(", "def prepare_data(("), "syntax|Syntax"),
    ],
    ids=["lacks a function", "lacks another", "raises", "lengths disagree", "import", "syntax"],
)
def test_a_bad_custom_file_is_the_organisers_fault(
    client: Client, code: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        client.publish_data(
            f"bad-{next(_names)}",
            files={"specific.py": code, "x.csv": "1"},
            workflow_elements="classifier",
            split=Custom("specific.py"),
            timeout=WITHIN,
        )
    assert caught.value.verdict is not None
    assert caught.value.verdict.culprit is Culprit.ORGANISER


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "no spaces"}, "name"),
        ({"target_column": None}, "target_column"),
        ({"workflow_elements": "clasifier"}, "clasifier"),
        ({"files": {}}, "file"),
        ({"files": {"../x.csv": GOOD}}, "file name"),
        ({"files": ["no/such/file.csv"]}, "no/such/file.csv"),
        ({"split": Custom("specific.py")}, "specific.py"),
    ],
)
def test_a_data_set_that_cannot_be_is_refused_at_the_client(
    client: Client, change: dict[str, Any], sentence: str
) -> None:
    arguments: dict[str, Any] = {
        "name": "fine",
        "files": {"data.csv": GOOD},
        "target_column": "label",
        "workflow_elements": "classifier",
        "split": HoldOut(0.5),
        "timeout": WITHIN,
        **change,
    }
    with pytest.raises((DatarunError, OSError), match=sentence):
        client.publish_data(arguments.pop("name"), **arguments)


# --- folds ---------------------------------------------------------------------------------------


def fold(**change: Any) -> dict[str, Any]:
    return {
        "submission_fold_id": next(_ids),
        "submission_id": 1,
        "dataset": "iris",
        "files": {"classifier.py": DUMMY},
        "train_is": np.arange(50),
        "test_is": np.arange(50, 75),
        **change,
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train_is": [0, 1, 75]}, "75"),
        ({"train_is": [0, -1]}, "-1"),
        ({"train_is": [0, 1, 1]}, "repeated"),
        ({"test_is": []}, "empty"),
        ({"test_is": [0.0, 1.0]}, "integers"),
        ({"test_is": [[1, 2]]}, "dimension"),
        ({"files": {}}, "file"),
        ({"files": {"a/classifier.py": DUMMY}}, "file name"),
        ({"files": {"classifier.py": "#" * (9 << 20)}}, "8|bytes"),
        ({"priority": "M"}, "priority"),
        ({"submission_fold_id": -3}, "submission_fold_id"),
        ({"dataset": "not a name"}, "not a name"),
        ({"pool": "nobody"}, "nobody"),
        ({"limits": {"wall": 3}}, "did you mean 'wall_seconds'"),
        ({"limits": {"wall_seconds": -1}}, "limits: wall_seconds"),
    ],
)
def test_a_fold_that_cannot_be_is_refused_at_the_client(
    client: Client, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DatarunError, match=sentence):
        client.publish_fold(**fold(**change))


def probabilities(expression: str) -> str:
    return (
        "import numpy as np\nclass Classifier:\n"
        "    def fit(self, X, y): pass\n"
        f"    def predict_proba(self, X): return {expression}\n"
    )


@pytest.mark.parametrize(
    ("files", "phase", "kind", "sentence"),
    [
        ({"other.py": "x = 1"}, Phase.TRAIN, FailureKind.EXCEPTION, "classifier.py"),
        ({"classifier.py": "x = 1"}, Phase.TRAIN, FailureKind.EXCEPTION, "Classifier"),
        ({"classifier.py": "def ("}, Phase.TRAIN, FailureKind.EXCEPTION, "classifier.py"),
        ({"classifier.py": "import nampy"}, Phase.TRAIN, FailureKind.EXCEPTION, "nampy"),
        (
            {"classifier.py": probabilities("np.ones((len(X) - 1, 3)) / 3")},
            Phase.VALIDATION,
            FailureKind.BAD_OUTPUT,
            "74 rows.*75",
        ),
        (
            {"classifier.py": probabilities("np.ones((len(X), 2)) / 2")},
            Phase.VALIDATION,
            FailureKind.BAD_OUTPUT,
            "2.*3",
        ),
        (
            {"classifier.py": probabilities("np.full((len(X), 3), np.nan)")},
            Phase.VALIDATION,
            FailureKind.BAD_OUTPUT,
            "NaN|finite",
        ),
        (
            {"classifier.py": probabilities("np.full((len(X), 3), 'a')")},
            Phase.VALIDATION,
            FailureKind.BAD_OUTPUT,
            "U1|text|number",
        ),
        (
            {"classifier.py": probabilities("[object()] * len(X)")},
            Phase.VALIDATION,
            FailureKind.BAD_OUTPUT,
            "object",
        ),
    ],
    ids=[
        "file missing",
        "class missing",
        "syntax error",
        "module missing",
        "too few rows",
        "too few columns",
        "NaN",
        "text",
        "objects",
    ],
)
def test_a_bad_submission_gets_a_verdict_that_names_the_fault(
    client: Client, files: dict[str, str], phase: Phase, kind: FailureKind, sentence: str
) -> None:
    message = fold(files=files)
    client.publish_fold(**message)
    [result] = client.follow([message["submission_fold_id"]], timeout=WITHIN)
    assert result.state is FoldState.ERROR
    verdict = result.verdict
    assert (verdict.phase, verdict.kind, verdict.culprit) == (phase, kind, Culprit.SUBMISSION)
    import re

    assert re.search(sentence, verdict.message), verdict.message
    assert result.log_messages.endswith(phase.marker)
    assert result.log_messages.count("ERROR(") == 1
    assert result.test_predictions is None


def test_a_fold_for_a_data_set_that_failed_fails_too(client: Client) -> None:
    with pytest.raises(DataError):
        client.publish_data(
            "failed",
            files={"data.csv": ""},
            target_column="label",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=WITHIN,
        )
    message = fold(dataset="failed")
    client.publish_fold(**message)
    [result] = client.follow([message["submission_fold_id"]], timeout=WITHIN)
    assert result.verdict.kind is FailureKind.DATA
    assert result.verdict.culprit is Culprit.ORGANISER
    assert result.log_messages.endswith("ERROR(split data)")


def test_a_fold_for_a_data_set_that_nobody_published_waits_outside_a_slot_and_then_fails(
    stack: Stack, tmp_path: Path
) -> None:
    # Given a worker with one slot that waits three seconds for a data set
    stack.start_all(slots=1, dataset_wait_seconds=3)
    with stack.client() as client:
        client.publish_data(
            "iris",
            files=[write_iris(tmp_path)],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=WITHIN,
        )
        # When a fold for an unknown data set is followed by one that can run
        client.publish_fold(**fold(submission_fold_id=1, dataset="nobody-has-it"))
        client.publish_fold(**fold(submission_fold_id=2))
        first, second = client.follow([1, 2], timeout=WITHIN)

    # Then the one that can run is done first, and the other fails with a sentence
    assert (first.submission_fold_id, first.state) == (2, FoldState.TESTED)
    assert second.verdict.kind is FailureKind.DATA
    assert "nobody-has-it" in second.verdict.message


# --- malformed messages --------------------------------------------------------------------------


def hand_typed(stack: Stack, body: str, key: str = "folds.default", **properties: Any) -> None:
    """Publish as the management console does."""
    _, _, vhost = stack.logins.admin.rpartition("/")
    answer = management(
        stack_node(stack),
        "POST",
        f"/api/exchanges/{vhost}/{WORK}/publish",
        json={
            "properties": properties,
            "routing_key": key,
            "payload": body,
            "payload_encoding": "string",
        },
    ).json()
    assert answer["routed"]


_node: list[Any] = []


@pytest.fixture(autouse=True)
def _remember_the_node(rabbitmq: Any) -> None:
    _node[:] = [rabbitmq]


def stack_node(_: Stack) -> Any:
    return _node[0]


def dead_letters(stack: Stack) -> list[str]:
    """The reasons of all dead letters, without taking them."""
    _, _, vhost = stack.logins.admin.rpartition("/")
    rows = management(
        stack_node(stack),
        "POST",
        f"/api/queues/{vhost}/{DEAD_LETTERS_QUEUE}/get",
        json={"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"},
    ).json()
    return [str(row["properties"].get("headers", {}).get("datarun-reason")) for row in rows]


PLAIN = {
    "submission_id": 1,
    "dataset": "iris",
    "files": {"classifier.py": DUMMY},
    "train_is": list(range(50)),
    "test_is": list(range(50, 75)),
}


def test_a_fold_typed_by_hand_in_the_console_runs(client: Client, shared_stack: Stack) -> None:
    hand_typed(shared_stack, json.dumps({**PLAIN, "submission_fold_id": 900}))
    [result] = client.follow([900], timeout=WITHIN)
    assert result.state is FoldState.TESTED


@pytest.mark.parametrize(
    ("body", "properties", "reason"),
    [
        ("not json", {}, "JSON"),
        (json.dumps({**PLAIN, "submission_fold_id": "seven"}), {}, "submission_fold_id"),
        (
            json.dumps({**PLAIN, "submission_fold_id": 1}),
            {"type": "datarun.fold.v9"},
            "version 9",
        ),
        (
            json.dumps(
                {
                    **PLAIN,
                    "submission_fold_id": 901,
                    "files": {
                        "classifier.py": {
                            "encoding": "zlib+base64",
                            "data": "eJw=",
                            "size": 1 << 50,
                        }
                    },
                }
            ),
            {},
            "files",
        ),
    ],
    ids=["not JSON", "wrong type", "unknown version", "inflating bomb"],
)
def test_a_malformed_message_goes_to_the_dead_letters_and_the_services_go_on(
    client: Client, shared_stack: Stack, body: str, properties: dict[str, Any], reason: str
) -> None:
    before = len(dead_letters(shared_stack))
    hand_typed(shared_stack, body, **properties)
    reasons = wait_until(
        lambda: dead_letters(shared_stack)[before:], within=WITHIN, what="a dead letter"
    )
    assert len(reasons) == 1
    assert reason in reasons[0]

    message = fold()
    client.publish_fold(**message)
    [result] = client.follow([message["submission_fold_id"]], timeout=WITHIN)
    assert result.state is FoldState.TESTED


def test_a_malformed_fold_whose_id_can_be_read_does_not_stay_todo(
    client: Client, shared_stack: Stack
) -> None:
    body = json.dumps({**PLAIN, "submission_fold_id": 950, "train_is": [0, 0]})
    hand_typed(shared_stack, body)
    [result] = client.follow([950], timeout=WITHIN)
    assert result.state is FoldState.ERROR
    assert result.verdict.kind is FailureKind.REJECTED
    assert result.verdict.culprit is Culprit.PUBLISHER
    assert "repeated" in result.verdict.message


def test_nothing_is_left_in_the_queues(client: Client) -> None:
    def empty() -> bool:
        queue = folds_queue("default")
        depth = client.queue_depths([queue])[queue]
        return depth is not None and depth.messages == 0

    wait_until(empty, within=WITHIN, what="an empty folds queue")
    unfinished = [each for each in client.folds(limit=1000) if not each.state.is_terminal]
    assert unfinished == []


def test_errors_are_value_errors_for_those_who_expect_that() -> None:
    assert issubclass(MessageError, ValueError)
