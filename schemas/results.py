"""What the collector publishes once a verdict is stored: small, without predictions."""

from __future__ import annotations

from typing import ClassVar

from schemas.arrays import AnyArray
from schemas.events import Measurements
from schemas.frozen import Id, Instant, Message
from schemas.states import DatasetState, FoldState
from schemas.verdicts import Verdict

Scores = dict[str, float | None]
"""Scorer name -> score; None where the scorer could not be applied."""


class FoldResult(Message):
    """A fold's verdict is stored. Exchange `datarun.results`, key `fold.<data set>.<fold id>`."""

    TYPE: ClassVar[str] = "datarun.fold-result.v1"

    run_id: str
    generation: int
    submission_fold_id: Id
    submission_id: Id
    dataset: str
    """Name of the data set, without version."""

    version: str | None
    state: FoldState
    verdict: Verdict | None
    valid_scores: Scores
    """On the rows `test_is` of the training data."""

    test_scores: Scores
    measurements: Measurements
    stored_at: Instant
    rejected: bool = False
    """An unforced second run of a fold: the stored verdict of the first stands."""


class DatasetResult(Message):
    """A data set is ready, or has failed. On exchange `datarun.results`, key `data.<name>`."""

    TYPE: ClassVar[str] = "datarun.dataset-result.v1"

    message_id: str
    name: str
    state: DatasetState
    version: str | None = None
    verdict: Verdict | None = None
    n_train: int | None = None
    n_test: int | None = None
    classes: AnyArray | None = None
    stored_at: Instant
