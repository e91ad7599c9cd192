"""Submissions and data sets that several tests use."""

from __future__ import annotations

from pathlib import Path

from sklearn.datasets import load_iris

FOREST = """
from sklearn.ensemble import RandomForestClassifier

class Classifier:
    def fit(self, X, y):
        self.forest = RandomForestClassifier(n_estimators=10, random_state=0).fit(X, y)

    def predict_proba(self, X):
        return self.forest.predict_proba(X)
"""

DUMMY = """
from sklearn.dummy import DummyClassifier

class Classifier:
    def fit(self, X, y):
        self.dummy = DummyClassifier().fit(X, y)

    def predict_proba(self, X):
        return self.dummy.predict_proba(X)
"""

WAITS_FOR_A_FILE = """
import pathlib, time
from sklearn.dummy import DummyClassifier

class Classifier:
    def fit(self, X, y):
        pathlib.Path({started!r}).touch()
        while not pathlib.Path({go!r}).exists():
            time.sleep(0.01)
        self.dummy = DummyClassifier().fit(X, y)

    def predict_proba(self, X):
        return self.dummy.predict_proba(X)
"""
"""Tells when `fit` has begun, and goes on when it is told to (isolation `process` only)."""


def write_iris(folder: Path) -> Path:
    """iris as a CSV file with a header and species names."""
    iris = load_iris(as_frame=True)
    frame = iris.data.assign(species=[str(iris.target_names[label]) for label in iris.target])
    path = folder / "iris.csv"
    frame.to_csv(path, index=False)
    return path
