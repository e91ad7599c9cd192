"""The demo's submissions, as they lie in `submissions/`, and the data sets they are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datarun.demo.datasets import write_digits, write_iris

FOLDER = Path(__file__).parent / "submissions"


@dataclass(frozen=True)
class DemoDataset:
    """A data set to publish, split by a held-out share."""

    name: str
    write: Callable[[Path], Path]
    target_column: str
    workflow_elements: str


@dataclass(frozen=True)
class DemoSubmission:
    """A folder of `submissions/`."""

    name: str
    dataset: str

    @property
    def folder(self) -> Path:
        """The files that are submitted."""
        return FOLDER / self.name


DATASETS = (
    DemoDataset("digits", write_digits, "digit", "classifier"),
    DemoDataset("iris", write_iris, "species", "feature_extractor, classifier"),
    DemoDataset("digits_proba", write_digits, "digit", "classifier, calibrator"),
)
"""What a submission consists of belongs to the data set, so digits are published twice."""

SUBMISSIONS = (
    DemoSubmission("random_forest", "digits"),
    DemoSubmission("petal_features", "iris"),
    DemoSubmission("calibrated", "digits_proba"),
    DemoSubmission("broken_fit", "digits"),
)
