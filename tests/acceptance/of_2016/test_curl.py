"""Every curl example of the documents of 2016 (0.1 and 0.2), against a running `datarun up`.

The examples stand here as printed. Mended: `GET` before a URL, which curl takes for a host, is
`-X GET`. Examples that both documents have are here once.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.documents_2016 import (
    CLASSIFIER,
    FOLD_FIELDS,
    N_TEST,
    N_TRAIN,
    SPECIFIC,
    DocumentedGateway,
    decoded_predictions,
    decoded_rows,
    encoded,
    encoded_rows,
    iris_csv,
)

GET = {" GET ": " -X GET "}


@dataclass(frozen=True)
class Answer:
    """What curl received."""

    status: int
    body: Any


def typed(
    documented: DocumentedGateway, example: str, replaced: dict[str, str] | None = None
) -> Answer:
    """The example in a shell. The options at its end only make curl say the status."""
    command = documented.as_typed(example, replaced) + " -sS -w '\\n%{http_code}'"
    done = subprocess.run(
        ["bash", "-c", command],
        # A proxy that the environment names would not find this machine's loopback.
        env={**os.environ, "NO_PROXY": "127.0.0.1", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    body, _, status = done.stdout.rpartition("\n")
    return Answer(int(status), json.loads(body))


def in_json(text: str) -> str:
    """`text` between the double quotes of JSON."""
    return json.dumps(text)[1:-1]


def test_a_data_set_is_registered_by_the_example_of_0_1(documented: DocumentedGateway) -> None:
    # When the example is typed, with a CSV file for `blablabla`
    answer = typed(
        documented,
        """
        curl -u username:password -H "Content-Type: application/json" -X POST -d '{"name":
        "iris", "target_column": "species", "workflow_elements": "classifier", "files": {"iris.csv":
        "blablabla"}}' http://127.0.0.1:8000/runapp/rawdata/
        """,
        {"blablabla": in_json(iris_csv())},
    )

    # Then the data set has an integer id, and the fields of 2016
    assert answer.status == 201
    assert isinstance(answer.body["id"], int)
    assert answer.body["files_path"] is None
    assert {name: answer.body[name] for name in ("name", "target_column", "workflow_elements")} == {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
    }


def test_a_custom_data_set_is_registered_by_the_example_of_0_2(
    documented: DocumentedGateway,
) -> None:
    # When the example is typed, compressed as `post_api` does it, under a name that is not taken
    answer = typed(
        documented,
        """
        curl -u username:password -H "Content-Type: application/json" -X POST -d '{"name":
        "iris", "target_column": "species", "workflow_elements": "classifier", "files": {"iris.csv":
        "blablabla", "specific.py": "bli"}}' http://127.0.0.1:8000/runapp/rawdata/
        """,
        {
            "blablabla": encoded(iris_csv().encode()),
            '"bli"': f'"{encoded(SPECIFIC.encode())}"',
            '"iris"': '"iris_custom"',
        },
    )

    # Then it is there, and splits itself
    assert answer.status == 201
    split = documented.post("rawdata/customsplit/", {"raw_data_id": answer.body["id"]})
    assert split["task_id"]
    data = documented.wait_until_split(answer.body["id"])
    assert (data["state"], data["n_train"], data["n_test"]) == ("READY", N_TRAIN, N_TEST)


def test_data_sets_are_listed(documented: DocumentedGateway) -> None:
    answer = typed(
        documented,
        "curl -u username:password GET http://127.0.0.1:8000/runapp/rawdata/",
        GET,
    )

    assert answer.status == 200
    assert {1: "given_1", 2: "given_2"}.items() <= {
        data["id"]: data["name"] for data in answer.body
    }.items()


def test_a_csv_file_is_split(documented: DocumentedGateway) -> None:
    # When the example is typed
    answer = typed(
        documented,
        """
        curl -u username:password -H "Content-Type: application/json" -X POST
        -d '{"random_state": 42, "held_out_test": 0.7, "raw_data_id": 1}'
        http://127.0.0.1:8000/runapp/rawdata/split/
        """,
    )

    # Then there is a task, and soon a version with seven tenths of the rows for testing
    assert answer.status == 200
    assert answer.body["task_id"]
    data = documented.wait_until_split(1)
    assert (data["state"], data["n_train"], data["n_test"]) == ("READY", N_TRAIN, N_TEST)


def test_a_custom_data_set_is_split(documented: DocumentedGateway) -> None:
    # When the example is typed for data set 2, the one with a python file
    answer = typed(
        documented,
        """
        curl -u username:password -H "Content-Type: application/json" -X POST -d
        '{"raw_data_id": 1}' http://127.0.0.1:8000/runapp/rawdata/customsplit/
        """,
        {'"raw_data_id": 1': '"raw_data_id": 2'},
    )

    # Then `prepare_data` splits it
    assert answer.status == 200
    assert answer.body["task_id"]
    assert documented.wait_until_split(2)["state"] == "READY"


def test_a_fold_is_posted_trained_and_tested(documented: DocumentedGateway) -> None:
    # When the example is typed
    answer = typed(
        documented,
        """
        curl -u username:password -H "Content-Type: application/json" -X POST -d
        '{"databoard_s_id": 1, "files": {"classifier.py": "import sklearn.."}, "train_is":
        "hgjhg", "raw_data":1, "databoard_sf_id": 11, "test_is": "kdjhLGf2", "priority": "L"}'
        http://127.0.0.1:8000/runapp/submissionfold/
        """,
        {
            "import sklearn..": in_json(CLASSIFIER),
            "hgjhg": encoded_rows(0, 30),
            "kdjhLGf2": encoded_rows(30, 45),
        },
    )

    # Then the fold waits for its data set to be split, and is trained and tested afterwards
    assert answer.status == 201
    assert answer.body["task_id"]
    assert answer.body["databoard_sf_id"] == 11
    assert answer.body["priority"] == "L"
    assert documented.ended_fold(11)["state"] == "TESTED"


@pytest.mark.parametrize("force", ["submission, submission_fold", "submission_fold"])
def test_a_fold_is_run_again_by_force(documented: DocumentedGateway, force: str) -> None:
    # Given a fold that has ended
    fold_id = {"submission, submission_fold": 21, "submission_fold": 22}[force]
    first = documented.ended_fold(fold_id)

    # When it is posted again, with the `force` that 0.2 describes
    answer = typed(
        documented,
        """
        curl -u username:password -H "Content-Type: application/json" -X POST -d
        '{"databoard_s_id": 1, "files": {"classifier.py": "import sklearn.."}, "train_is":
        "hgjhg", "raw_data":1, "databoard_sf_id": 11, "test_is": "kdjhLGf2", "priority": "L"}'
        http://127.0.0.1:8000/runapp/submissionfold/
        """,
        {
            "import sklearn..": in_json(CLASSIFIER),
            "hgjhg": encoded_rows(0, 30),
            "kdjhLGf2": encoded_rows(30, 45),
            '"databoard_sf_id": 11': f'"databoard_sf_id": {fold_id}',
            '"databoard_s_id": 1': f'"databoard_s_id": {100 + fold_id}',
            '"priority": "L"': f'"priority": "H", "force": "{force}"',
        },
    )

    # Then it has a new run, which ends as well
    assert answer.status == 201
    assert answer.body["task_id"] != first["task_id"]
    assert documented.wait_until_ended(fold_id)["task_id"] == answer.body["task_id"]


def test_one_fold_is_shown(documented: DocumentedGateway) -> None:
    # Given fold 10
    documented.ended_fold(10)

    # When the example is typed
    answer = typed(
        documented,
        "curl -u username:password GET http://127.0.0.1:8000/runapp/submissionfold/10/",
        GET,
    )

    # Then it has the fields of 2016
    assert answer.status == 200
    assert answer.body["state"] == "TESTED"
    assert set(answer.body) >= FOLD_FIELDS


def test_folds_are_listed(documented: DocumentedGateway) -> None:
    documented.ended_fold(10)

    answer = typed(
        documented,
        "curl -u username:password GET http://127.0.0.1:8000/runapp/submissionfold/",
        GET,
    )

    assert answer.status == 200
    (fold,) = [fold for fold in answer.body if fold["databoard_sf_id"] == 10]
    assert decoded_rows(fold["train_is"]).tolist() == list(range(30))


def test_folds_are_listed_lightly(documented: DocumentedGateway) -> None:
    documented.ended_fold(10)

    answer = typed(
        documented,
        "curl -u username:password GET http://127.0.0.1:8000/runapp/submissionfold-light/",
        GET,
    )

    assert answer.status == 200
    (fold,) = [fold for fold in answer.body if fold["databoard_sf_id"] == 10]
    assert set(fold) == {"databoard_sf_id", "databoard_s", "state", "new"}
    assert fold["state"] == "TESTED"


def test_predictions_of_a_list_are_collected(documented: DocumentedGateway) -> None:
    # Given fold 10, while nobody knows folds 1 and 2
    documented.ended_fold(10)

    # When the example is typed
    answer = typed(
        documented,
        """
        curl -u username:password -H "Content-Type: application/json" -X POST -d
        '{"list_submission_fold": [1, 2, 10]}' http://127.0.0.1:8000/runapp/testpredictions/list/
        """,
    )

    # Then it comes with predictions that databoard can decode
    assert answer.status == 200
    (fold,) = answer.body
    assert fold["databoard_sf_id"] == 10
    assert decoded_predictions(fold["test_predictions"]).reshape(N_TEST, 3).shape == (N_TEST, 3)
    assert decoded_predictions(fold["full_train_predictions"]).size == N_TRAIN * 3


def test_new_predictions_are_collected_once(documented: DocumentedGateway) -> None:
    # Given a fold that has ended
    documented.ended_fold(30)
    example = """
        curl -u username:password -H "Content-Type: application/json" -X POST -d
        '{"raw_data_id": 1}' http://127.0.0.1:8000/runapp/testpredictions/new/
        """

    # When the example is typed twice
    first, second = typed(documented, example), typed(documented, example)

    # Then the fold was new the first time only
    assert (first.status, second.status) == (200, 200)
    assert 30 in {fold["databoard_sf_id"] for fold in first.body}
    assert second.body == []
