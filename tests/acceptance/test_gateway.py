"""The main job over REST, end to end, as databoard does it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import requests
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from tests.support.deadline import wait_until
from tests.support.rest import packed, packed_rows, unpacked
from tests.support.stack import RestClient, Stack
from tests.support.submissions import DUMMY, FOREST, WAITS_FOR_A_FILE, write_iris

CUSTOM = """
import csv
import os

import reading


def prepare_data(raw_data_path):
    reading.split(raw_data_path)


def get_train_data(raw_data_path):
    return reading.table(raw_data_path, "train.csv")


def get_test_data(raw_data_path):
    return reading.table(raw_data_path, "test.csv")


def train_submission(module_path, X, y, train_indices):
    from importlib import import_module

    model = import_module(".classifier", module_path).Classifier()
    model.fit([X[i] for i in train_indices], [y[i] for i in train_indices])
    return model


def test_submission(trained_model, X, test_indices):
    return trained_model.predict_proba([X[i] for i in test_indices])
"""
READING = """
import csv
import os


def split(folder):
    with open(os.path.join(folder, "data.csv")) as source:
        rows = list(csv.reader(source))[1:]
    for name, part in (("train.csv", rows[::2]), ("test.csv", rows[1::2])):
        with open(os.path.join(folder, name), "w") as target:
            csv.writer(target).writerows(part)


def table(folder, name):
    with open(os.path.join(folder, name)) as source:
        rows = list(csv.reader(source))
    return [[float(cell) for cell in row[:-1]] for row in rows], [row[-1] for row in rows]
"""


@pytest.fixture(scope="module")
def rest_client(shared_process_stack: Stack) -> RestClient:
    """A gateway of the file's stack."""
    return shared_process_stack.start_gateway(gateway_body_bytes=32 << 20)


@pytest.fixture(scope="module")
def iris(rest_client: RestClient, tmp_path_factory: pytest.TempPathFactory) -> int:
    """iris, registered and being split; its id."""
    csv = write_iris(tmp_path_factory.mktemp("iris"))
    body = {"target_column": "species", "workflow_elements": "classifier"}
    files = {"iris.csv": packed(csv.read_bytes())}
    answer = rest_client.post("rawdata/", name="iris", files=files, **body)
    raw_data_id = int(answer.json()["id"])
    rest_client.post("rawdata/split/", raw_data_id=raw_data_id, held_out_test=0.5)
    return raw_data_id


def test_forest_over_rest_predicts_what_scikit_learn_predicts(
    rest_client: RestClient, iris: int, tmp_path: Path
) -> None:
    # Given iris, which is just being split
    # When a forest is posted
    rows = np.arange(60)
    answer = rest_client.post(
        "submissionfold/",
        databoard_sf_id=11,
        databoard_s_id=1,
        raw_data=iris,
        files={"classifier.py": packed(FOREST)},
        train_is=packed_rows(rows),
        test_is=packed_rows(np.arange(60, 75)),
        priority="H",
    )
    assert answer.status_code == 201
    rest_client.wait_until_ended(11)
    (tested,) = rest_client.post("testpredictions/list/", list_submission_fold=[11]).json()

    # Then its predictions are those of the same forest trained here
    import pandas as pd

    frame = pd.read_csv(write_iris(tmp_path))
    train, test = train_test_split(frame, test_size=0.5, random_state=42)
    X, y = train.drop(columns="species").to_numpy(), train["species"].to_numpy(str)
    here = RandomForestClassifier(n_estimators=10, random_state=0).fit(X[rows], y[rows])
    assert tested["state"] == "TESTED", tested["log_messages"]
    np.testing.assert_allclose(
        unpacked(tested["full_train_predictions"], tested["shape"]["full_train_predictions"]),
        here.predict_proba(X),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        unpacked(tested["test_predictions"], tested["shape"]["test_predictions"]),
        here.predict_proba(test.drop(columns="species").to_numpy()),
        atol=1e-12,
    )
    assert tested["classes"] == ["setosa", "versicolor", "virginica"]
    assert tested["train_time"] > 0
    assert 100 < tested["train_memory"] < 500_000


def test_custom_data_set_may_import_its_siblings(rest_client: RestClient, tmp_path: Path) -> None:
    # Given a data set with two python files and data
    csv = write_iris(tmp_path).read_text()
    answer = rest_client.post(
        "rawdata/",
        name="flowers",
        target_column="",
        workflow_elements="classifier",
        files={"data.csv": packed(csv), "specific.py": packed(CUSTOM), "reading.py": READING},
    )
    raw_data_id = answer.json()["id"]
    assert rest_client.post("rawdata/customsplit/", raw_data_id=raw_data_id).status_code == 200

    # When a fold is posted
    rest_client.post(
        "submissionfold/",
        databoard_sf_id=21,
        databoard_s_id=2,
        raw_data=raw_data_id,
        files={"classifier.py": FOREST},
        train_is=list(range(50)),
        test_is=list(range(50, 75)),
    )
    rest_client.wait_until_ended(21)

    # Then it is tested
    fold = rest_client.get("submissionfold/21/?format=json").json()
    assert fold["state"] == "TESTED", fold["log_messages"]
    assert np.array(fold["test_predictions"]).shape == (75, 3)


def test_data_set_that_is_too_large_for_a_message_is_uploaded_and_split(
    rest_client: RestClient, shared_process_stack: Stack
) -> None:
    # Given a CSV file of 6 MB
    values = np.random.default_rng(0).random((100_000, 3))
    lines = [f"{a:.17f},{b:.17f},{c:.17f},{'yes' if a > 0.5 else 'no'}" for a, b, c in values]
    csv = "a,b,c,kind\n" + "\n".join(lines)
    answer = rest_client.post(
        "rawdata/",
        name="large",
        target_column="kind",
        workflow_elements="classifier",
        files={"large.csv": packed(csv)},
    )
    assert answer.status_code == 201
    raw_data_id = answer.json()["id"]

    # When a split is asked for, and a fold posted
    rest_client.post("rawdata/split/", raw_data_id=raw_data_id, held_out_test=0.1)
    rest_client.post(
        "submissionfold/",
        databoard_sf_id=31,
        databoard_s_id=3,
        raw_data=raw_data_id,
        files={"classifier.py": DUMMY},
        train_is=packed_rows(np.arange(1000)),
        test_is=packed_rows(np.arange(1000, 2000)),
    )
    rest_client.wait_until_ended(31)

    # Then it is tested on all rows, and nothing of the upload is left
    fold = rest_client.get("submissionfold/31/").json()
    assert fold["state"] == "TESTED", fold["log_messages"]
    assert fold["shape"] == {"full_train_predictions": [90_000, 2], "test_predictions": [10_000, 2]}
    wait_until(
        lambda: not shared_process_stack.rows("SELECT blob FROM blobs WHERE visibility = 'raw'"),
        what="the end of the uploads",
    )


def test_urgent_fold_overtakes_those_that_wait(
    rest_client: RestClient, shared_process_stack: Stack, iris: int, tmp_path: Path
) -> None:
    # Given two slots that are busy, and folds that wait
    go = tmp_path / "go"
    for number in range(2):
        blocker = WAITS_FOR_A_FILE.format(started=str(tmp_path / f"started-{number}"), go=str(go))
        _post(rest_client, iris, 41 + number, {"classifier.py": blocker})
    wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 2, within=60)
    order = tmp_path / "order"
    for fold_id, priority in ((51, "L"), (52, "L"), (53, "low"), (54, "high"), (55, "H")):
        noting = f"open({str(order)!r}, 'a').write('{fold_id} ')\n{DUMMY}"
        _post(rest_client, iris, fold_id, {"classifier.py": noting}, priority=priority)
    wait_until(
        lambda: _waiting(shared_process_stack) == 5, within=30, what="the folds in their queue"
    )

    # When the slots get free
    go.touch()
    rest_client.wait_until_ended(51, 52, 53, 54, 55)

    # Then the urgent ones were first
    began = [int(word) for word in order.read_text().split()]
    assert set(began[:2]) == {54, 55}
    assert set(began[2:]) == {51, 52, 53}


def test_body_that_is_too_large_is_refused_before_it_is_read(
    rest_client: RestClient,
) -> None:
    # When more is sent than is taken: announced, or in pieces that nobody has announced
    content = b'{"name": "' + b"x" * (40 << 20) + b'"}'
    pieces = (content[start : start + (1 << 20)] for start in range(0, len(content), 1 << 20))
    for body in (content, pieces):
        answer = requests.post(
            f"{rest_client.url}runapp/rawdata/", data=body, auth=rest_client.auth, timeout=60
        )

        # Then a sentence says so, and the gateway goes on
        assert answer.status_code == 413
        assert "gateway_body_bytes" in answer.json()["detail"]
    assert rest_client.get("rawdata/").status_code == 200


def test_description_needs_nothing_from_the_internet(rest_client: RestClient) -> None:
    # When the page that describes the interface is read
    url = rest_client.url
    page = requests.get(f"{url}docs", timeout=30).text

    # Then all that it names is here
    named = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert named
    for address in named:
        assert address.startswith("/"), address
        assert requests.get(f"{url}{address[1:]}", timeout=30).status_code == 200


def _waiting(stack: Stack) -> int:
    with stack.client() as client:
        depth = client.queue_depths(["datarun.folds.default"])["datarun.folds.default"]
    return depth.messages if depth is not None else 0


def _post(
    client: RestClient, raw_data_id: int, fold_id: int, files: dict[str, str], **fields: object
) -> None:
    answer = client.post(
        "submissionfold/",
        databoard_sf_id=fold_id,
        databoard_s_id=fold_id,
        raw_data=raw_data_id,
        files={name: packed(text) for name, text in files.items()},
        train_is=packed_rows(np.arange(60)),
        test_is=packed_rows(np.arange(60, 75)),
        **fields,
    )
    assert answer.status_code == 201, answer.text
