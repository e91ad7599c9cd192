"""Each function of `post_api`, and databoard's own use of them, against a running `datarun up`."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from datarun import post_api
from tests.support.command import environment
from tests.support.documents_2016 import (
    CLASSIFIER,
    N_TEST,
    N_TRAIN,
    SPECIFIC,
    USER,
    DocumentedGateway,
    decoded_predictions,
    decoded_rows,
    iris_csv,
)
from tests.support.pages import run_by

FORCE_BOTH = "submission, submission_fold"
SHIM, STORED = (block.code for block in run_by(__file__, "docs/from-2016.md"))


class Files:
    """Files on disk, which the functions want by their paths."""

    def __init__(self, folder: Path) -> None:
        self.iris = folder / "iris.csv"
        self.iris.write_text(iris_csv())
        self.specific = folder / "iris_datarun.py"
        self.specific.write_text(SPECIFIC)
        self.classifier = folder / "classifier.py"
        self.classifier.write_text(CLASSIFIER)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """What databoard has on disk."""
    return Files(tmp_path)


@pytest.fixture
def gateway(documented: DocumentedGateway) -> tuple[str, str, str]:
    """The first three arguments of every function."""
    return (documented.url, *USER)


def accepted(response: requests.Response) -> Any:
    """The content of an answer that databoard would go on with."""
    assert response.ok, f"{response.reason}: {response.text}"
    return response.json()


def test_databoard_sends_a_data_set_and_a_submission_and_collects(
    documented: DocumentedGateway, gateway: tuple[str, str, str], files: Files
) -> None:
    # Given a data set that is sent and split, as `send_data_datarun` does it
    raw_data_id = accepted(
        post_api.post_data(*gateway, "board", "species", "classifier", str(files.iris))
    )["id"]
    task_id = accepted(post_api.post_split(*gateway, 0.7, raw_data_id))["task_id"]
    assert task_id

    # When a submission's folds are sent at once, as `train_test_submission_datarun` does it: the
    # first one with the files
    rows = np.arange(N_TRAIN)
    for number, fold_id in enumerate((501, 502, 503)):
        answer = post_api.post_submission_fold(
            *gateway,
            50,
            fold_id,
            rows[rows % 3 != number],
            rows[rows % 3 == number],
            "L",
            raw_data_id=raw_data_id if number == 0 else None,
            list_submission_files=[str(files.classifier)] if number == 0 else None,
            force=None,
        )
        assert accepted(answer)["task_id"]

    # Then each is trained and tested, with the rows that were meant
    for number, fold_id in enumerate((501, 502, 503)):
        assert documented.wait_until_ended(fold_id)["state"] == "TESTED"
        detail = accepted(post_api.get_submission_fold_detail(*gateway, fold_id))
        assert decoded_rows(detail["test_is"]).tolist() == rows[rows % 3 == number].tolist()

    # And the predictions are decoded as databoard decodes them
    collected = accepted(post_api.get_prediction_list(*gateway, [501, 502, 503]))
    assert [fold["databoard_sf_id"] for fold in collected] == [501, 502, 503]
    for fold in collected:
        probabilities = decoded_predictions(fold["test_predictions"]).reshape(N_TEST, 3)
        assert probabilities.sum(axis=1) == pytest.approx(1)
        assert decoded_predictions(fold["full_train_predictions"]).reshape(N_TRAIN, 3).any()
        assert fold["train_time"] > 0
        assert fold["train_memory"] > 0

    # And what was collected is not new any more
    assert accepted(post_api.get_prediction_new(*gateway, raw_data_id)) == []


def test_a_data_set_with_a_python_file_is_sent_and_split(
    documented: DocumentedGateway, gateway: tuple[str, str, str], files: Files
) -> None:
    # Given a file with the organiser's functions among the extra files
    registered = accepted(
        post_api.post_data(
            *gateway, "custom", "species", "classifier", str(files.iris), [str(files.specific)]
        )
    )

    # When it is split by them
    accepted(post_api.custom_post_split(*gateway, registered["id"]))

    # Then it is split as they say, and a submission runs on it
    data = documented.wait_until_split(registered["id"])
    assert (data["state"], data["n_train"], data["n_test"]) == ("READY", N_TRAIN, N_TEST)
    accepted(
        post_api.post_submission_fold(
            *gateway,
            51,
            511,
            list(range(30)),
            list(range(30, 45)),
            raw_data_id=registered["id"],
            list_submission_files=[files.classifier],
        )
    )
    assert documented.wait_until_ended(511)["state"] == "TESTED"


def test_a_compressed_file_keeps_its_ending_and_is_split(
    documented: DocumentedGateway, gateway: tuple[str, str, str], files: Files
) -> None:
    # Given what 2016 renamed to .csv, and could not read
    compressed = files.iris.with_suffix(".csv.gz")
    compressed.write_bytes(gzip.compress(files.iris.read_bytes()))

    # When it is sent and split
    raw_data_id = accepted(
        post_api.post_data(*gateway, "compressed", "species", "classifier", compressed)
    )["id"]
    accepted(post_api.post_split(*gateway, 0.7, raw_data_id))

    # Then it has its rows
    data = documented.wait_until_split(raw_data_id)
    assert (data["state"], data["n_train"]) == ("READY", N_TRAIN)


def test_priority_is_sent(
    documented: DocumentedGateway, gateway: tuple[str, str, str], files: Files
) -> None:
    # Given what 2016 forgot to send
    documented.ended_fold(10)

    # When one fold of each priority is posted
    for fold_id, priority in ((521, "H"), (522, "L")):
        answer = post_api.post_submission_fold(
            *gateway, 52, fold_id, [0, 1, 2], [3], priority, 1, [files.classifier]
        )

        # Then it is known by it
        assert accepted(answer)["priority"] == priority


def test_force_runs_a_fold_again_and_leaves_the_others(
    documented: DocumentedGateway, gateway: tuple[str, str, str], files: Files
) -> None:
    # Given two folds of a submission that have ended
    documented.ended_fold(10)
    rows = (np.arange(30), np.arange(30, 45))
    for fold_id in (531, 532):
        accepted(
            post_api.post_submission_fold(*gateway, 53, fold_id, *rows, "L", 1, [files.classifier])
        )
    other = documented.wait_until_ended(532)
    first = documented.wait_until_ended(531)

    # When the first is posted again: without force, then with it
    refused = post_api.post_submission_fold(*gateway, 53, 531, *rows)
    again = accepted(post_api.post_submission_fold(*gateway, 53, 531, *rows, force=FORCE_BOTH))

    # Then it is refused in words, then run again; and the other fold is what it was
    assert (refused.status_code, refused.reason) == (400, "Bad Request")
    assert "submission_fold" in refused.json()["detail"]
    assert documented.wait_until_ended(531)["task_id"] == again["task_id"] != first["task_id"]
    assert (
        accepted(post_api.get_submission_fold_detail(*gateway, 532))["task_id"]
        == (other["task_id"])
    )


def test_ids_may_come_from_a_command_line_or_from_numpy(
    documented: DocumentedGateway, gateway: tuple[str, str, str]
) -> None:
    documented.ended_fold(10)

    detail = accepted(post_api.get_submission_fold_detail(*gateway, "10"))
    listed = accepted(post_api.get_prediction_list(*gateway, np.array([10])))

    assert detail["databoard_sf_id"] == listed[0]["databoard_sf_id"] == 10


def test_lists_are_complete(documented: DocumentedGateway, gateway: tuple[str, str, str]) -> None:
    # Given a fold
    documented.ended_fold(10)

    # When everything is listed
    data_sets = accepted(post_api.get_raw_data(*gateway))
    folds = accepted(post_api.get_submission_fold(*gateway))
    light = accepted(post_api.get_submission_fold_light(*gateway))

    # Then both lists of folds have the same ones
    assert [data["id"] for data in data_sets][:2] == [1, 2]
    assert [fold["databoard_sf_id"] for fold in folds] == [
        fold["databoard_sf_id"] for fold in light
    ]
    assert 10 in {fold["databoard_sf_id"] for fold in folds}


def test_new_predictions_of_all_data_sets_are_collected(
    documented: DocumentedGateway, gateway: tuple[str, str, str]
) -> None:
    documented.ended_fold(541)

    collected = accepted(post_api.get_prediction_new(*gateway, None))

    assert 541 in {fold["databoard_sf_id"] for fold in collected}


def test_host_url_works_with_and_without_its_slash(gateway: tuple[str, str, str]) -> None:
    url, *login = gateway
    bare = url.rstrip("/")

    assert post_api.get_raw_data(bare, *login).ok
    assert post_api.get_raw_data(f"{bare}//", *login).ok


def test_a_wrong_password_is_an_answer_not_an_exception(gateway: tuple[str, str, str]) -> None:
    url, username, _ = gateway

    answer = post_api.get_raw_data(url, username, "pässwörd")

    assert (answer.ok, answer.status_code) == (False, 401)


def test_programs_of_2016_import_it_as_docs_from_2016_says(
    gateway: tuple[str, str, str], tmp_path: Path
) -> None:
    # Given what the page says to type, beside a program that imports as in 2016
    subprocess.run(["bash", "-euc", SHIM], cwd=tmp_path, timeout=30, check=True)
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom test_files import post_api\n"
        "print(post_api.get_raw_data(*sys.argv[1:]).json()[0]['name'])\n"
    )

    # When that program runs
    done = subprocess.run(
        [sys.executable, program.name, *gateway],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # Then it speaks to the gateway
    assert done.stdout == "given_1\n", done.stderr


def test_results_are_acknowledged_as_docs_from_2016_says(gateway: tuple[str, str, str]) -> None:
    # Given results that have been asked for, and a program that stores them
    host_url, username, password = gateway
    names: dict[str, Any] = {"host_url": host_url, "username": username, "password": password}

    # When it does what the page says
    exec(STORED, {"requests": requests}, names)

    # Then they have arrived, and nothing is new
    assert names["answer"].ok
    assert isinstance(names["stored"], list)
    assert accepted(post_api.get_prediction_new(*gateway, None)) == []
