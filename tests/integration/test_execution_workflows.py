"""The workflows of 2016 on real submissions: what they get, what they return, and in what shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consumer.jobs import FoldOutcome
from schemas.states import FoldState
from tests.support.folds import Dataset, Folds, make_custom, make_dataset, make_iris
from tests.support.submissions import DUMMY, FOREST

SPECIFIC = """
    import numpy as np
    from importlib import import_module

    def prepare_data(raw_data_path): ...
    def get_train_data(raw_data_path): ...
    def get_test_data(raw_data_path): ...

    def train_submission(module_path, X, y, train_indices):
        classifier = import_module('.classifier', module_path).Classifier()
        classifier.fit([X[i] for i in train_indices], np.array([y[i] for i in train_indices]))
        return classifier

    def test_submission(trained_model, X, test_indices):
        return trained_model.predict_proba([X[i] for i in test_indices])
"""

RISES = """
    import numpy as np

    class Classifier:
        def fit(self, X, y):
            assert all(len(np.unique(np.diff(series))) == 1 for series in X)

        def predict_proba(self, X):
            rises = np.array([series.iloc[-1] > series.iloc[0] for series in X])
            return np.column_stack([~rises, rises]).astype(float)
"""


def succeeded(outcome: FoldOutcome) -> FoldOutcome:
    assert outcome.verdict is None, f"{outcome.verdict}\n{outcome.verdict.traceback}"
    assert outcome.state is FoldState.TESTED
    assert outcome.full_train_predictions is not None
    assert outcome.test_predictions is not None
    return outcome


def test_classifier_predicts_all_training_rows_and_all_test_rows(
    folds: Folds, iris: Dataset
) -> None:
    # Given a forest
    # When it is trained on four fifths of the training rows
    fold = folds.begin(iris, FOREST)
    outcome = succeeded(fold.outcome())

    # Then all training rows and all test rows are predicted, and each phase was reported
    assert outcome.full_train_predictions is not None
    assert outcome.test_predictions is not None
    assert outcome.full_train_predictions.shape == (75, 3)
    assert outcome.test_predictions.shape == (75, 3)
    assert (outcome.test_predictions.argmax(axis=1) == np.arange(75) // 25).mean() > 0.9
    assert fold.reached == [FoldState.TRAINED, FoldState.VALIDATED]
    assert fold.measured[0].train_time is not None
    assert fold.measured[0].test_time is None


def test_regressor_returns_one_value_a_row(folds: Folds, tmp_path: Path) -> None:
    # Given a linear target and a regressor that returns a column
    x = np.arange(40.0).reshape(-1, 1)
    dataset = make_dataset(
        tmp_path / "line", (x[::2], x[1::2]), 3 * x[::2, 0], elements="regressor"
    )
    regressor = """
        from sklearn.linear_model import LinearRegression

        class Regressor:
            def fit(self, X, y):
                self.line = LinearRegression().fit(X, y)

            def predict(self, X):
                return self.line.predict(X).reshape(-1, 1)
    """

    # When it is trained
    outcome = succeeded(folds.run(dataset, {"regressor.py": regressor}))

    # Then its predictions have one dimension
    assert outcome.test_predictions == pytest.approx(3 * x[1::2, 0])


def test_feature_extractor_gets_the_data_frame_with_its_types(folds: Folds, tmp_path: Path) -> None:
    # Given a data set of text, integers and booleans
    frame = pd.DataFrame(
        {"colour": ["red", "blue"] * 20, "size": range(40), "big": [False] * 20 + [True] * 20}
    )
    dataset = make_dataset(
        tmp_path / "mixed",
        (frame.iloc[:30].reset_index(drop=True), frame.iloc[30:].reset_index(drop=True)),
        np.array(["no", "yes"] * 15),
        elements="feature_extractor, classifier",
        classes=np.array(["no", "yes"]),
        columns=tuple(frame.columns),
    )
    extractor = """
        class FeatureExtractor:
            def fit(self, X_df, y):
                assert list(X_df.columns) == ["colour", "size", "big"], X_df.columns
                assert X_df["size"].dtype == int and X_df["big"].dtype == bool, X_df.dtypes
                assert len(X_df) == len(y) == 24

            def transform(self, X_df):
                return (X_df["colour"] == "blue").to_numpy().reshape(-1, 1).astype(float)
    """

    # When it is trained
    outcome = succeeded(
        folds.run(
            dataset,
            {"feature_extractor.py": extractor, "classifier.py": FOREST},
        )
    )

    # Then the classifier saw what the extractor made
    assert outcome.test_predictions is not None
    assert (outcome.test_predictions.argmax(axis=1) == [0, 1] * 5).all()


def test_feature_extractor_gets_a_data_frame_of_numbers(folds: Folds, tmp_path: Path) -> None:
    dataset = make_iris(tmp_path / "iris", "feature_extractor, classifier")
    extractor = """
        class FeatureExtractor:
            def fit(self, X_df, y):
                self.mean = X_df["petal width"].mean()

            def transform(self, X_df):
                return X_df.assign(wide=X_df["petal width"] > self.mean).to_numpy(float)
    """
    files = {"feature_extractor.py": extractor, "classifier.py": FOREST}

    succeeded(folds.run(dataset, files))


def test_calibrator_is_fitted_on_a_tenth_that_the_classifier_has_not_seen(
    folds: Folds, tmp_path: Path
) -> None:
    # Given a calibrator that tells which rows it was fitted on
    dataset = make_iris(tmp_path / "iris", "classifier, calibrator")
    calibrator = """
        import numpy as np

        class Calibrator:
            def fit(self, probas, y):
                print("calibrated on", len(probas), np.bincount(y).tolist())
                self.shape = probas.shape[1]

            def predict_proba(self, probas):
                return probas / probas.sum(axis=1, keepdims=True)
    """

    # When they are trained on 60 rows
    outcome = succeeded(
        folds.run(
            dataset,
            {"classifier.py": DUMMY, "calibrator.py": calibrator},
            train_is=np.r_[0:20, 25:45, 50:70],
        )
    )

    # Then the calibrator had six, two of each class
    assert outcome.output.stdout == "calibrated on 6 [2, 2, 2]\n"


@pytest.mark.parametrize("classes_attribute", ["self.classes_ = self.dummy.classes_", "pass"])
def test_class_that_was_not_trained_on_gets_a_zero_column_in_its_place(
    folds: Folds, iris: Dataset, classes_attribute: str
) -> None:
    # Given training rows of the classes 0 and 2 only
    classifier = DUMMY.replace(".fit(X, y)", f".fit(X, y)\n        {classes_attribute}")

    # When they are trained on
    outcome = succeeded(folds.run(iris, classifier, train_is=np.r_[0:20, 50:70]))

    # Then class 1 has no probability, and the others have theirs
    assert outcome.test_predictions is not None
    assert outcome.test_predictions[0].tolist() == [0.5, 0.0, 0.5]


def test_columns_are_ordered_by_the_classes_that_the_classifier_names(
    folds: Folds, iris: Dataset
) -> None:
    # Given a classifier whose columns are in its own order
    classifier = """
        import numpy as np

        class Classifier:
            def fit(self, X, y):
                self.classes_ = np.array([2, 0, 1])

            def predict_proba(self, X):
                return np.tile([0.2, 0.0, 0.8], (len(X), 1))
    """

    # When it is trained and tested
    outcome = succeeded(folds.run(iris, classifier))

    # Then they are in the order of the data set's classes
    assert outcome.test_predictions is not None
    assert outcome.test_predictions[0].tolist() == [0.0, 0.8, 0.2]


def test_extra_files_can_be_imported_and_read(folds: Folds, iris: Dataset) -> None:
    # Given a submission of several files, one of them called as a package of ours
    files = {
        "classifier.py": """
            from .weights import WEIGHTS
            import storage
            from sklearn.dummy import DummyClassifier

            class Classifier:
                def fit(self, X, y):
                    print(WEIGHTS, storage.KIND, open("notes.txt").read())
                    self.dummy = DummyClassifier().fit(X, y)

                def predict_proba(self, X):
                    return self.dummy.predict_proba(X)
        """,
        "weights.py": "from storage import KIND\nWEIGHTS = [1, 2]",
        "storage.py": "KIND = 'mine'",
        "notes.txt": "a note",
    }

    outcome = succeeded(folds.run(iris, files))

    assert outcome.output.stdout == "[1, 2] mine a note\n"


def test_submission_may_write_to_its_arrays(folds: Folds, iris: Dataset) -> None:
    # Given a submission that overwrites everything it gets
    spoils = """
        import numpy as np

        class Classifier:
            def fit(self, X, y):
                X[:] = 0
                y[:] = 0

            def predict_proba(self, X):
                assert X.sum() > 0
                X[:] = 0
                return np.ones((len(X), 3))
    """
    before = (iris.folder / "X_train.npy").read_bytes()

    # When it has run
    succeeded(folds.run(iris, spoils))

    # Then the data set is as it was
    assert (iris.folder / "X_train.npy").read_bytes() == before
    succeeded(folds.run(iris, spoils))


def test_custom_workflow_takes_a_list_of_series(folds: Folds, tmp_path: Path) -> None:
    # Given an organiser's code, and X as a list of pandas Series of different lengths
    dataset = make_custom(tmp_path / "series", SPECIFIC)

    # When a submission is trained and tested by it
    outcome = succeeded(folds.run(dataset, RISES))

    # Then all rows are predicted
    assert outcome.full_train_predictions is not None
    assert outcome.full_train_predictions.argmax(axis=1).tolist() == [0, 1] * 6
    assert outcome.test_predictions is not None
    assert outcome.test_predictions.argmax(axis=1).tolist() == [0, 1] * 4


def test_custom_labels_outside_the_fold_are_filled_with_a_known_one(
    folds: Folds, tmp_path: Path
) -> None:
    # Given an organiser's code that shows the y it gets
    shows = SPECIFIC.replace("classifier =", "print(list(map(int, y)))\n        classifier =", 1)
    dataset = make_custom(tmp_path / "series", shows)

    # When rows 1, 3 and 4 are trained on
    outcome = succeeded(folds.run(dataset, RISES, train_is=[1, 3, 4]))

    # Then all rows but 4 carry the label of row 1
    assert outcome.output.stdout == f"{[1, 1, 1, 1, 0] + [1] * 7}\n"


def test_custom_code_may_import_its_siblings(folds: Folds, tmp_path: Path) -> None:
    code = "from shared import note\n" + "\n".join(
        line[4:] for line in SPECIFIC.splitlines()
    ).replace("return classifier", "note()\n    return classifier")
    dataset = make_custom(tmp_path / "series", code, **{"shared.py": "def note(): print('shared')"})

    outcome = succeeded(folds.run(dataset, RISES))

    assert outcome.output.stdout == "shared\n"


def test_same_run_id_gives_the_same_random_numbers(folds: Folds, iris: Dataset) -> None:
    # Given a submission that predicts random numbers, unseeded
    random = """
        import random
        import numpy as np

        class Classifier:
            def fit(self, X, y):
                pass

            def predict_proba(self, X):
                return np.random.rand(len(X), 3) + random.random()
    """

    # When it runs twice under one run id, in different slots, and once under another
    first = folds.run(iris, random, run_id="a").test_predictions
    again = folds.run(iris, random, run_id="a", slot=1).test_predictions
    other = folds.run(iris, random, run_id="b").test_predictions

    # Then only the other one differs
    assert first is not None
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
