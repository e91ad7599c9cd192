"""Scores of stored predictions: accuracy, RMSE, or what the organiser asks of scikit-learn."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.results import Scores

Values = npt.NDArray[Any]

_REFUSALS = (ValueError, TypeError, AttributeError, ArithmeticError, LookupError, RuntimeError)
"""What a scorer raises when it does not fit the predictions."""


@dataclass(frozen=True)
class Predictions:
    """What a fold predicted; None for a phase that it did not reach."""

    full_train: Values | None
    """All training rows: (n_train, n_classes) probabilities or (n_train,) values."""

    test: Values | None


@dataclass(frozen=True)
class Labels:
    """What predictions of one version of a data set are compared with."""

    y_train: Values
    y_test: Values
    classes: Values | None
    """Sorted, of shape (n_classes,); None for regression."""

    scoring: tuple[str, ...]
    """scikit-learn scorer names; empty for accuracy or RMSE."""

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return self.y_train.nbytes + self.y_test.nbytes


def score_fold(
    labels: Labels | None, test_is: Values | None, predictions: Predictions
) -> tuple[Scores, Scores]:
    """valid_scores, on the training rows `test_is`, and test_scores, on the test rows.

    Empty where there are no predictions, or no labels to compare with.
    """
    valid: Scores = {}
    test: Scores = {}
    if labels is None:
        return valid, test
    if predictions.full_train is not None and test_is is not None:
        valid = _valid_scores(labels, test_is, predictions.full_train)
    if predictions.test is not None:
        test = scores(labels, labels.y_test, predictions.test)
    return valid, test


def scores(labels: Labels, y: Values, predicted: Values) -> Scores:
    """Each scorer's value for `predicted`, as long as `y`; None where it cannot be applied."""
    names = labels.scoring or ("accuracy" if labels.classes is not None else "rmse",)
    if len(predicted) != len(y) or len(y) == 0:
        return dict.fromkeys(names)
    return {name: _score(name, labels, y, predicted) for name in names}


def _valid_scores(labels: Labels, test_is: Values, predicted: Values) -> Scores:
    rows = test_is.astype(np.int64)
    # A worker refuses rows out of range; should one not, nothing can be said of them.
    if len(predicted) != len(labels.y_train) or rows.max(initial=0) >= len(predicted):
        return scores(labels, labels.y_train[:0], predicted[:0])
    return scores(labels, labels.y_train[rows], predicted[rows])


def _score(name: str, labels: Labels, y: Values, predicted: Values) -> float | None:
    try:
        if name == "accuracy" and labels.classes is not None:
            value = float(np.mean(_most_probable(predicted, labels.classes) == y))
        elif name == "rmse":
            value = math.sqrt(float(np.mean(np.square(predicted - y))))
        else:
            value = _scikit_learn_score(name, labels.classes, y, predicted)
    except _REFUSALS:
        return None
    return value if math.isfinite(value) else None


def _most_probable(predicted: Values, classes: Values) -> Values:
    return classes[np.argmax(predicted, axis=1)] if predicted.ndim == 2 else predicted


def _scikit_learn_score(name: str, classes: Values | None, y: Values, predicted: Values) -> float:
    # Imported when first needed: it takes most of a second.
    from sklearn.metrics import get_scorer

    from storage.stored_estimator import StoredClassifier, StoredRegressor

    estimator = StoredRegressor(predicted)
    if classes is not None:
        estimator = StoredClassifier(predicted, classes)
    rows = np.zeros((len(y), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(get_scorer(name)(estimator, rows, y))
