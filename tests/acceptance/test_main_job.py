"""The main job, end to end: what a publisher gets for real data sets and submissions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import KFold, train_test_split

from datarun import Custom, HoldOut
from schemas.states import FoldState
from tests.support.stack import Stack
from tests.support.strict import strict_if_required
from tests.support.submissions import DUMMY, FOREST, write_iris

WITHIN = 60


@pytest.mark.parametrize("kind", ["stack", "postgres_stack"])
def test_folds_of_iris_give_what_scikit_learn_gives(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # Given a stack and iris
    stack: Stack = request.getfixturevalue(kind)
    stack.start_all(isolation=strict_if_required())
    csv = write_iris(tmp_path)
    with stack.client() as client:
        iris = client.publish_data(
            "iris",
            files=[csv],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5, random_state=42),
            timeout=WITHIN,
        )
        assert (iris.n_train, iris.n_test) == (75, 75)
        assert list(iris.classes) == ["setosa", "versicolor", "virginica"]

        # When a forest is trained on five folds
        folds = list(KFold(5, shuffle=True, random_state=0).split(np.arange(75)))
        for number, (train_is, test_is) in enumerate(folds):
            client.publish_fold(
                submission_fold_id=11 + number,
                submission_id=1,
                dataset="iris",
                files={"classifier.py": FOREST},
                train_is=train_is,
                test_is=test_is,
                priority="H",
            )
        results = {
            result.submission_fold_id: result
            for result in client.follow(range(11, 16), timeout=WITHIN)
        }

        # Then each fold's predictions are those of the same forest trained here
        import pandas as pd

        frame = pd.read_csv(csv)
        train, test = train_test_split(frame, test_size=0.5, random_state=42)
        X_train, y_train = train.drop(columns="species").to_numpy(), train["species"].to_numpy(str)
        X_test, y_test = test.drop(columns="species").to_numpy(), test["species"].to_numpy(str)
        assert sorted(results) == [11, 12, 13, 14, 15]
        for number, (train_is, test_is) in enumerate(folds):
            result = results[11 + number]
            here = RandomForestClassifier(n_estimators=10, random_state=0)
            here.fit(X_train[train_is], y_train[train_is])
            assert result.state is FoldState.TESTED, result.log_messages
            assert result.verdict is None
            np.testing.assert_allclose(
                result.full_train_predictions, here.predict_proba(X_train), atol=1e-12
            )
            np.testing.assert_allclose(
                result.test_predictions, here.predict_proba(X_test), atol=1e-12
            )
            assert result.valid_scores["accuracy"] == pytest.approx(
                here.score(X_train[test_is], y_train[test_is])
            )
            assert result.test_scores["accuracy"] == pytest.approx(here.score(X_test, y_test))
            assert result.train_time > 0
            assert result.train_cpu_time > 0
            assert 100 < result.train_memory < 500_000

        # And they are new until they are acknowledged, also to another client
        with stack.client() as other:
            new = list(other.new_results(dataset="iris"))
            assert sorted(result.submission_fold_id for result in new) == sorted(results)
            for result in new[1:]:
                result.acknowledge()
            assert [left.run_id for left in client.new_results(dataset="iris")] == [new[0].run_id]
            new[0].acknowledge()
        assert list(client.new_results(dataset="iris")) == []


def test_a_cross_validation_in_one_call(shared_stack: Stack, tmp_path: Path) -> None:
    submission = tmp_path / "forest"
    submission.mkdir()
    (submission / "classifier.py").write_text(FOREST)
    with shared_stack.client() as client:
        publish_iris(client, tmp_path)
        report = client.cross_validate(submission, dataset="iris", cv=10, timeout=WITHIN)
        frame = report.to_frame()
        assert len(frame) == 10
        assert set(frame["state"]) == {"TESTED"}
        again = client.cross_validate(submission, dataset="iris", cv=10, timeout=WITHIN)
        assert not set(again.to_frame()["submission_fold_id"]) & set(frame["submission_fold_id"])


SERIES_SPECIFIC = """
import numpy as np
import pandas as pd
from importlib import import_module
from reading import read          # a sibling file

def prepare_data(raw_data_path):
    frame = pd.read_csv(raw_data_path + "/series.csv")
    frame.sample(frac=1, random_state=1).iloc[:40].to_csv(raw_data_path + "/train.csv", index=False)
    frame.sample(frac=1, random_state=1).iloc[40:].to_csv(raw_data_path + "/test.csv", index=False)

def get_train_data(raw_data_path):
    return read(raw_data_path + "/train.csv")

def get_test_data(raw_data_path):
    return read(raw_data_path + "/test.csv")

def train_submission(module_path, X, y, train_indices):
    feature_extractor = import_module(".feature_extractor", module_path).FeatureExtractor()
    classifier = import_module(".classifier", module_path).Classifier()
    X_train = [X[i] for i in train_indices]
    y_train = np.array([y[i] for i in train_indices])
    feature_extractor.fit(X_train, y_train)
    classifier.fit(feature_extractor.transform(X_train), y_train)
    return feature_extractor, classifier

def test_submission(trained_model, X, test_indices):
    feature_extractor, classifier = trained_model
    X_test = [X[i] for i in test_indices]
    return classifier.predict_proba(feature_extractor.transform(X_test))
"""
READING = """
import pandas as pd

def read(path):
    frame = pd.read_csv(path)
    X = [pd.Series(row[:-1].astype(float), name="s") for row in frame.to_numpy()]
    return X, frame["kind"].to_numpy()
"""
EXTRACTOR = """
import numpy as np

class FeatureExtractor:
    def fit(self, X, y):
        pass

    def transform(self, X):
        return np.array([[series.mean(), series.std()] for series in X])
"""


def test_a_custom_data_set_whose_x_is_a_list_of_series(shared_stack: Stack, tmp_path: Path) -> None:
    # Given time series, with an organiser's own python files
    random = np.random.default_rng(0)
    rows = ["a,b,c,d,kind"]
    for number in range(60):
        kind = number % 2
        values = random.normal(loc=3 * kind, size=4)
        rows.append(",".join(f"{value:.6f}" for value in values) + f",{kind}")
    (tmp_path / "series.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "specific.py").write_text(SERIES_SPECIFIC)
    (tmp_path / "reading.py").write_text(READING)
    with shared_stack.client() as client:
        series = client.publish_data(
            "series",
            files=[tmp_path / name for name in ("series.csv", "specific.py", "reading.py")],
            workflow_elements="feature_extractor, classifier",
            split=Custom("specific.py"),
            timeout=WITHIN,
        )
        assert (series.n_train, series.n_test) == (40, 20)

        # When a submission is trained on it
        client.publish_fold(
            submission_fold_id=1001,
            submission_id=1001,
            dataset="series",
            files={"feature_extractor.py": EXTRACTOR, "classifier.py": FOREST},
            train_is=np.arange(30),
            test_is=np.arange(30, 40),
        )
        [result] = client.follow([1001], timeout=WITHIN)

    # Then it learns what is to be learnt
    assert result.state is FoldState.TESTED, result.log_messages
    assert result.full_train_predictions.shape == (40, 2)
    assert result.test_predictions.shape == (20, 2)
    assert result.test_scores["accuracy"] > 0.8


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_data_set_of_100_mb_and_predictions_of_20_mb(stack: Stack, tmp_path: Path) -> None:
    # Given a CSV file of 100 MB with ten classes
    stack.start_all(slots=1, isolation=strict_if_required())
    rows, columns = 530_000, 10
    random = np.random.default_rng(0)
    csv = tmp_path / "big.csv"
    block = random.normal(size=(10_000, columns))
    with csv.open("w") as file:
        file.write(",".join(f"x{number}" for number in range(columns)) + ",label\n")
        lines = [",".join(f"{value:.17f}" for value in row) for row in block]
        for number in range(rows):
            file.write(f"{lines[number % len(lines)]},{number % 10}\n")
    assert csv.stat().st_size > 100e6
    with stack.client() as client:
        big = client.publish_data(
            "big",
            files=[csv],
            target_column="label",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=200,
        )
        assert big.n_train == rows // 2

        # When a submission's predictions for it have 20 MB that do not compress
        client.publish_fold(
            submission_fold_id=1,
            submission_id=1,
            dataset="big",
            files={
                "classifier.py": "import numpy as np\n"
                "class Classifier:\n"
                "    def fit(self, X, y): pass\n"
                "    def predict_proba(self, X):\n"
                "        return np.random.default_rng(len(X)).random((len(X), 10))\n"
            },
            train_is=np.arange(0, rows // 2, 2),
            test_is=np.arange(1, rows // 2, 2),
        )
        [result] = client.follow([1], timeout=200)

    # Then they arrive as they were
    assert result.state is FoldState.TESTED, result.log_messages
    assert result.test_predictions.nbytes > 20e6
    expected = np.random.default_rng(rows // 2).random((rows // 2, 10))
    np.testing.assert_array_equal(result.test_predictions, expected)
    assert result.full_train_predictions.shape == (rows // 2, 10)


def test_a_high_priority_fold_overtakes_hundreds_of_waiting_low_ones(
    stack: Stack, tmp_path: Path
) -> None:
    # Given 400 folds of priority L that wait, and then one H
    stack.declare_topology()
    stack.start_collector()
    prepare = stack.start_worker("prepare")
    with stack.client() as client:
        publish_iris(client, tmp_path)
        prepare.stop()
        common = {
            "submission_id": 1,
            "dataset": "iris",
            "files": {"classifier.py": DUMMY},
            "train_is": np.arange(50),
            "test_is": np.arange(50, 75),
        }
        client.publish_folds(
            {**common, "submission_fold_id": number, "priority": "L"} for number in range(400)
        )
        client.publish_fold(**common, submission_fold_id=5000, priority="H")

        # When a worker of one slot comes
        stack.start_worker("folds", slots=1)
        [high] = client.follow([5000], timeout=WITHIN)

        # Then the H fold was the first to be trained
        assert high.state is FoldState.TESTED
        ended = stack.rows("select submission_fold_id, stored_at from runs where state = 'TESTED'")
        assert len(ended) < 100
        assert high.submission_fold_id in {
            row.submission_fold_id
            for row in ended
            if row.stored_at == min(row.stored_at for row in ended)
        }
        client.cancel(range(400))


def publish_iris(client, folder: Path):
    return client.publish_data(
        "iris",
        files=[write_iris(folder)],
        target_column="species",
        workflow_elements="classifier",
        split=HoldOut(0.5),
        timeout=WITHIN,
    )
