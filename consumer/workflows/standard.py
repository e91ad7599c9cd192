"""The standard workflow: feature extractor, classifier or regressor, calibrator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedShuffleSplit

from consumer.execution.fold_task import FoldTask
from consumer.workflows.failure import Refusal
from consumer.workflows.predictions import aligned, plain
from consumer.workflows.submission import load_element
from schemas.states import Culprit, FailureKind


class StandardWorkflow:
    """Trains and applies the elements of one submission.

    X is a data frame when there is a feature extractor, else an array of shape (n_rows, n_columns).
    """

    def __init__(self, task: FoldTask) -> None:
        self._task = task
        self._extractor: Any = None
        self._estimator: Any = None
        self._calibrator: Any = None

    def shaped(self, x: Any) -> Any:
        """X as this workflow's submissions expect it."""
        if "feature_extractor" in self._task.elements and isinstance(x, np.ndarray):
            return pd.DataFrame(x, columns=list(self._task.columns or ()), copy=False)
        return x

    def train(self, x: Any) -> None:
        """Import the submission's classes, make one of each, and fit them on `train_is`."""
        elements, y = self._task.elements, self._task.y
        rows = _take(x, self._task.train_is)
        if "feature_extractor" in elements:
            self._extractor = load_element("feature_extractor")
        self._estimator = load_element("regressor" if "regressor" in elements else "classifier")
        if "calibrator" in elements:
            self._calibrator = load_element("calibrator")
        if self._extractor is not None:
            self._extractor.fit(rows, y)
            rows = self._extractor.transform(rows)
        if self._calibrator is None:
            self._estimator.fit(rows, y)
            return
        for_estimator, for_calibrator = _calibration_split(y)
        self._estimator.fit(_take(rows, for_estimator), y[for_estimator])
        probabilities = self._estimator.predict_proba(_take(rows, for_calibrator))
        self._calibrator.fit(probabilities, y[for_calibrator])

    def predict(self, x: Any) -> npt.NDArray[Any]:
        """(n_rows, n_classes) probabilities, or (n_rows,) values of a regressor."""
        rows = x if self._extractor is None else self._extractor.transform(x)
        classes = self._task.classes
        if "regressor" in self._task.elements:
            return plain(self._estimator.predict(rows))
        predictions = self._estimator.predict_proba(rows)
        last = self._estimator
        if self._calibrator is not None:
            predictions = self._calibrator.predict_proba(predictions)
            last = self._calibrator
        array = plain(predictions)
        if classes is None:
            return array
        return aligned(array, classes, getattr(last, "classes_", None), self._task.y)


def _take(x: Any, rows: npt.NDArray[np.int64]) -> Any:
    return x.iloc[rows] if isinstance(x, pd.DataFrame | pd.Series) else x[rows]


def _calibration_split(
    y: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    splitter = StratifiedShuffleSplit(1, test_size=0.1, random_state=57)
    try:
        for_estimator, for_calibrator = next(splitter.split(np.zeros((len(y), 1)), y))
    except ValueError as error:
        raise Refusal(
            f"the rows of train_is cannot be split for a calibrator: {error}",
            kind=FailureKind.DATA,
            culprit=Culprit.PUBLISHER,
        ) from error
    return for_estimator, for_calibrator
