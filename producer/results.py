"""`Result`: one fold's stored verdict, with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.datasets import DatasetReference
from schemas.requests import FoldRecord
from schemas.results import Scores
from schemas.states import FoldState
from schemas.verdicts import Verdict


class Result:
    """One fold's stored verdict. Frozen, but for `new`, which `acknowledge` ends."""

    def __init__(self, record: FoldRecord, acknowledge: Callable[[Result], None]) -> None:
        """`record` has its arrays whole, not in parts."""
        self.record = record
        self.new = record.new
        """Until acknowledged, by anybody."""

        self._acknowledge = acknowledge
        self._classes = _decoded(record.classes)
        self._full_train = _decoded(record.full_train_predictions)
        self._test = _decoded(record.test_predictions)

    def acknowledge(self) -> None:
        """Say that this result has arrived. It is no longer new when this returns.

        Raises CollectorUnreachable when the collector does not confirm it.
        """
        self._acknowledge(self)
        self.new = False

    @property
    def submission_fold_id(self) -> int:
        """The publisher's id of the fold."""
        return self.record.submission_fold_id

    @property
    def submission_id(self) -> int:
        """The publisher's id of the submission."""
        return self.record.submission_id

    @property
    def dataset(self) -> str:
        """Name of the data set, without its version."""
        return self.record.dataset

    @property
    def version(self) -> str | None:
        """Version of the data set; None when the fold failed before it was known."""
        return self.record.version

    @property
    def run_id(self) -> str:
        """What `publish_fold` returned for this run."""
        return self.record.run_id

    @property
    def state(self) -> FoldState:
        """TESTED, ERROR or CANCELLED."""
        return self.record.state

    @property
    def verdict(self) -> Verdict | None:
        """What went wrong, and whose fault it was; None when TESTED."""
        return self.record.verdict

    @property
    def log_messages(self) -> str:
        """What the submission printed; a failure's traceback, reason and phase at the end."""
        return self.record.log_messages

    @property
    def classes(self) -> npt.NDArray[Any] | None:
        """Class labels in the order of the predictions' columns; None for regression."""
        return self._classes

    @property
    def full_train_predictions(self) -> npt.NDArray[Any] | None:
        """Of all training rows: (n_train, n_classes) probabilities or (n_train,) values.

        None when the fold failed before, or when predictions were not asked for.
        """
        return self._full_train

    @property
    def test_predictions(self) -> npt.NDArray[Any] | None:
        """Of the test rows: (n_test, n_classes) probabilities or (n_test,) values."""
        return self._test

    @property
    def valid_scores(self) -> Scores:
        """Scorer name -> score on the rows `test_is`."""
        return self.record.valid_scores

    @property
    def test_scores(self) -> Scores:
        """Scorer name -> score on the test rows."""
        return self.record.test_scores

    @property
    def train_time(self) -> float | None:
        """Wall seconds of training."""
        return self.record.measurements.train_time

    @property
    def validation_time(self) -> float | None:
        """Wall seconds of predicting all training rows."""
        return self.record.measurements.validation_time

    @property
    def test_time(self) -> float | None:
        """Wall seconds of predicting the test rows."""
        return self.record.measurements.test_time

    @property
    def train_cpu_time(self) -> float | None:
        """CPU seconds of training, children included."""
        return self.record.measurements.train_cpu_time

    @property
    def test_cpu_time(self) -> float | None:
        """CPU seconds of predicting the test rows, children included."""
        return self.record.measurements.test_cpu_time

    @property
    def train_memory(self) -> float | None:
        """Peak kB of this fold alone, up to the end of training."""
        return self.record.measurements.train_memory

    @property
    def test_memory(self) -> float | None:
        """Peak kB of this fold alone, up to its end."""
        return self.record.measurements.test_memory

    def __repr__(self) -> str:
        reference = DatasetReference(self.dataset, self.version)
        what = f": {self.verdict}" if self.verdict else f", scores {self.valid_scores}"
        return f"<Result of fold {self.submission_fold_id} on {reference}: {self.state}{what}>"


def _decoded(array: Any) -> npt.NDArray[Any] | None:
    return None if array is None else np.asarray(array.to_numpy())
