"""Scores: accuracy, RMSE, scikit-learn's scorers, and what cannot be scored."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from storage.scoring import Labels, Predictions, score_fold, scores

CLASSES = np.array(["a", "b", "c"])
Y = CLASSES[[0, 1, 2, 0, 1, 2]]
PROBABILITIES = np.full((6, 3), 0.1) + 0.7 * np.eye(3)[[0, 1, 2, 0, 2, 2]]


def labels(*scoring: str) -> Labels:
    return Labels(y_train=Y, y_test=Y, classes=CLASSES, scoring=scoring)


def test_accuracy_takes_the_most_probable_class() -> None:
    assert scores(labels(), Y, PROBABILITIES) == {"accuracy": pytest.approx(5 / 6)}


def test_accuracy_takes_predicted_labels_too() -> None:
    assert scores(labels(), Y, CLASSES[[0, 1, 2, 0, 1, 1]]) == {"accuracy": pytest.approx(5 / 6)}


def test_regression_is_scored_by_the_root_of_the_mean_squared_error() -> None:
    regression = Labels(np.arange(4.0), np.arange(4.0), None, ())

    assert scores(regression, np.arange(4.0), np.arange(4.0) + 2) == {"rmse": 2.0}


def test_organisers_scorers_give_what_scikit_learn_gives() -> None:
    found = scores(labels("roc_auc_ovr", "neg_log_loss", "f1_macro"), Y, PROBABILITIES)

    assert found["roc_auc_ovr"] == pytest.approx(roc_auc_score(Y, PROBABILITIES, multi_class="ovr"))
    assert found["neg_log_loss"] == pytest.approx(-log_loss(Y, PROBABILITIES, labels=CLASSES))
    assert found["f1_macro"] is not None


def test_a_scorer_that_cannot_be_applied_gives_none_and_the_others_count() -> None:
    found = scores(labels("neg_log_loss", "no_such_scorer", "accuracy"), Y, Y)

    assert found == {"neg_log_loss": None, "no_such_scorer": None, "accuracy": 1.0}


def test_regressions_scorers_are_applied_to_values() -> None:
    y = np.arange(5.0)
    regression = Labels(y, y, None, ("r2", "neg_mean_absolute_error", "neg_log_loss"))

    found = scores(regression, y, y + 1)

    assert found["r2"] == pytest.approx(0.5)
    assert found["neg_mean_absolute_error"] == -1.0
    assert found["neg_log_loss"] is None


@pytest.mark.parametrize(
    ("test_is", "predicted"),
    [([6], PROBABILITIES), ([2**40], PROBABILITIES), ([0], PROBABILITIES[:3])],
    ids=["row out of range", "row far out of range", "predictions too short"],
)
def test_rows_that_do_not_exist_are_not_scored(
    test_is: list[int], predicted: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> None:
    valid, test = score_fold(labels(), np.array(test_is), Predictions(predicted, None))

    assert valid == {"accuracy": None}
    assert test == {}


def test_without_labels_there_are_no_scores() -> None:
    assert score_fold(None, np.array([0]), Predictions(PROBABILITIES, None)) == ({}, {})
