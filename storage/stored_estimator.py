"""Estimators that return predictions made before, so that scikit-learn's scorers take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

Values = npt.NDArray[Any]


class StoredClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Returns stored probabilities of shape (n, n_classes), or stored labels of shape (n,)."""

    def __init__(self, stored: Values, classes: Values) -> None:
        self.stored = stored
        self.classes = classes

    @property
    def classes_(self) -> Values:
        """Sorted class labels."""
        return self.classes

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, X: Values) -> Values:  # noqa: ARG002 - scikit-learn's signature
        """The stored probabilities. AttributeError when labels are stored."""
        if self.stored.ndim != 2:
            raise AttributeError("the fold predicted labels, not probabilities")
        return self.stored

    def predict(self, X: Values) -> Values:  # noqa: ARG002 - scikit-learn's signature
        """The class of the highest probability, or the stored labels."""
        if self.stored.ndim != 2:
            return self.stored
        most_probable: Values = self.classes[np.argmax(self.stored, axis=1)]
        return most_probable


class StoredRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Returns stored values of shape (n,)."""

    def __init__(self, stored: Values) -> None:
        self.stored = stored

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Values) -> Values:  # noqa: ARG002 - scikit-learn's signature
        """The stored values."""
        return self.stored
