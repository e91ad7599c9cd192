"""Every example with the package requests of the documents of 2016, against a running `datarun up`.

The examples stand here as printed, and are evaluated. Mended: the comma that is missing after
`'priority': 'L'`. Examples that both documents have are here once.
"""

from __future__ import annotations

import pytest
import requests

from tests.support.documents_2016 import (
    CLASSIFIER,
    N_TEST,
    N_TRAIN,
    SPECIFIC,
    DocumentedGateway,
    decoded_predictions,
    encoded,
    encoded_rows,
    iris_csv,
)

POST_FOLD = """
    requests.post('http://127.0.0.1:8000/runapp/submissionfold/', auth=('username',
    'password'), json={ 'databoard_sf_id': 10, 'databoard_s_id': 24, 'raw_data': 8, 'train_is':
    'GDHRFdfgfd', 'test_is': 'kdjhLGf2', 'priority': 'L' 'files': {'classifier.py': 'import
    skle...'}})
    """
WITH_CONTENT = {
    "'priority': 'L' 'files'": "'priority': 'L', 'files'",
    "'import skle...'": repr(CLASSIFIER),
    "GDHRFdfgfd": encoded_rows(0, 30),
    "kdjhLGf2": encoded_rows(30, 45),
    "'raw_data': 8": "'raw_data': 1",
}


def typed(
    documented: DocumentedGateway, example: str, replaced: dict[str, str] | None = None
) -> requests.Response:
    """What the example gives in Python."""
    answer = eval(documented.as_typed(example, replaced), {"requests": requests})
    assert isinstance(answer, requests.Response)
    return answer


def test_a_data_set_is_registered_by_the_example_of_0_1(documented: DocumentedGateway) -> None:
    answer = typed(
        documented,
        """
        requests.post('http://127.0.0.1:8000/runapp/rawdata/', auth=('username', 'password'),
        json={'name': 'iris', 'target_column': 'species', 'workflow_elements': 'classifier',
        'files': {'iris.csv': 'blablabla'}})
        """,
        {"'blablabla'": repr(iris_csv()), "'iris'": "'iris_requests'"},
    )

    assert answer.status_code == 201
    assert isinstance(answer.json()["id"], int)


def test_a_taken_name_is_refused_as_in_2016(documented: DocumentedGateway) -> None:
    # Given a data set that is being split
    documented.post("rawdata/split/", {"raw_data_id": 1, "held_out_test": 0.7, "random_state": 42})

    # When its name is registered again, then it is taken
    answer = typed(
        documented,
        """
        requests.post('http://127.0.0.1:8000/runapp/rawdata/', auth=('username', 'password'),
        json={'name': 'iris', 'target_column': 'species', 'workflow_elements': 'classifier',
        'files': {'iris.csv': 'blablabla'}})
        """,
        {"'blablabla'": repr(iris_csv()), "'iris'": "'given_1'"},
    )

    assert (answer.ok, answer.reason) == (False, "Bad Request")
    assert answer.json() == {"name": ["RawData with this name already exists."]}


def test_a_custom_data_set_is_registered_by_the_example_of_0_2(
    documented: DocumentedGateway,
) -> None:
    # When the example is run, compressed as `post_api` does it, under a name that is not taken
    answer = typed(
        documented,
        """
        requests.post('http://127.0.0.1:8000/runapp/rawdata/', auth=('username', 'password'),
        json={'name': 'iris', 'target_column': 'species', 'workflow_elements': 'classifier',
        'files': {'iris.csv': 'bla', 'specific.py': 'bli'}})
        """,
        {
            "'bla'": repr(encoded(iris_csv().encode())),
            "'bli'": repr(encoded(SPECIFIC.encode())),
            "'iris'": "'iris_requests_custom'",
        },
    )

    # Then it is there, and splits itself
    assert answer.status_code == 201
    raw_data_id = answer.json()["id"]
    documented.post("rawdata/customsplit/", {"raw_data_id": raw_data_id})
    assert documented.wait_until_split(raw_data_id)["state"] == "READY"


def test_data_sets_are_listed(documented: DocumentedGateway) -> None:
    answer = typed(
        documented,
        "requests.get('http://127.0.0.1:8000/runapp/rawdata/', auth=('username', 'password'))",
    )

    assert answer.status_code == 200
    assert [data["name"] for data in answer.json()][:2] == ["given_1", "given_2"]


def test_a_csv_file_is_split_under_the_other_spelling(documented: DocumentedGateway) -> None:
    # When the example is run, whose URL says raw_data
    answer = typed(
        documented,
        """
        requests.post('http://127.0.0.1:8000/runapp/raw_data/split/', auth=('username', 'password'),
        json={'random_state': 42, 'held_out_test': 0.7, 'raw_data_id': 1})
        """,
    )

    # Then there is a task, and soon a version
    assert answer.status_code == 200
    assert answer.json()["task_id"]
    assert documented.wait_until_split(1)["n_test"] == N_TEST


def test_a_custom_data_set_is_split_under_the_other_spelling(
    documented: DocumentedGateway,
) -> None:
    # When the example is run for data set 2, the one with a python file
    answer = typed(
        documented,
        """
        requests.post('http://127.0.0.1:8000/runapp/raw_data/customsplit/', auth=('username',
        'password'), json={'raw_data_id': 1})
        """,
        {"'raw_data_id': 1": "'raw_data_id': 2"},
    )

    # Then `prepare_data` splits it
    assert answer.status_code == 200
    assert answer.json()["task_id"]
    assert documented.wait_until_split(2)["state"] == "READY"


def test_a_fold_is_posted_trained_and_tested(documented: DocumentedGateway) -> None:
    # When the example is run
    answer = typed(
        documented, POST_FOLD, {**WITH_CONTENT, "'databoard_sf_id': 10": "'databoard_sf_id': 40"}
    )

    # Then the fold is accepted, and ends
    assert answer.status_code == 201
    assert answer.json()["task_id"]
    assert documented.ended_fold(40)["state"] == "TESTED"


@pytest.mark.parametrize("force", ["submission, submission_fold", "submission_fold"])
def test_a_fold_is_run_again_by_force(documented: DocumentedGateway, force: str) -> None:
    # Given a fold that has ended
    fold_id = {"submission, submission_fold": 21, "submission_fold": 22}[force]
    first = documented.ended_fold(fold_id)

    # When it is posted again, with the `force` that 0.2 describes
    answer = typed(
        documented,
        POST_FOLD,
        {
            **WITH_CONTENT,
            "'databoard_sf_id': 10": f"'databoard_sf_id': {fold_id}, 'force': '{force}'",
            "'databoard_s_id': 24": f"'databoard_s_id': {100 + fold_id}",
        },
    )

    # Then it has a new run, which ends as well
    assert answer.status_code == 201
    assert answer.json()["task_id"] != first["task_id"]
    assert documented.wait_until_ended(fold_id)["task_id"] == answer.json()["task_id"]


def test_one_fold_is_shown(documented: DocumentedGateway) -> None:
    documented.ended_fold(10)

    answer = typed(
        documented,
        """
        requests.get('http://127.0.0.1:8000/runapp/submissionfold/10/', auth=('username',
        'password'))
        """,
    )

    assert answer.status_code == 200
    assert answer.json()["databoard_sf_id"] == 10


def test_folds_are_listed(documented: DocumentedGateway) -> None:
    documented.ended_fold(10)

    answer = typed(
        documented,
        """
        requests.get('http://127.0.0.1:8000/runapp/submissionfold/', auth=('username',
        'password'))
        """,
    )

    assert answer.status_code == 200
    assert 10 in {fold["databoard_sf_id"] for fold in answer.json()}


def test_folds_are_listed_lightly(documented: DocumentedGateway) -> None:
    documented.ended_fold(10)

    answer = typed(
        documented,
        """
        requests.get('http://127.0.0.1:8000/runapp/submissionfold-light/', auth=('username',
        'password'))
        """,
    )

    assert answer.status_code == 200
    assert 10 in {fold["databoard_sf_id"] for fold in answer.json()}


def test_predictions_of_a_list_are_collected(documented: DocumentedGateway) -> None:
    # Given fold 10, while nobody knows folds 1 and 2
    documented.ended_fold(10)

    # When the example is run
    answer = typed(
        documented,
        """
        requests.post('http://127.0.0.1:8000/runapp/testpredictions/list/', auth=('username',
        'password'), json={'list_submission_fold': [1, 2, 10]})
        """,
    )

    # Then it comes with predictions that databoard can decode
    assert answer.status_code == 200
    (fold,) = answer.json()
    assert decoded_predictions(fold["test_predictions"]).size == N_TEST * 3
    assert decoded_predictions(fold["full_train_predictions"]).size == N_TRAIN * 3


def test_new_predictions_are_collected_once(documented: DocumentedGateway) -> None:
    # Given a fold that has ended
    documented.ended_fold(31)
    example = """
        requests.post('http://127.0.0.1:8000/runapp/testpredictions/new/', auth=('username',
        'password'), json={'raw_data_id': 1})
        """

    # When the example is run twice
    first, second = typed(documented, example), typed(documented, example)

    # Then the fold was new the first time only
    assert 31 in {fold["databoard_sf_id"] for fold in first.json()}
    assert second.json() == []
