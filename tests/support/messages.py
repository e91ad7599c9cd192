"""Messages as clients and workers publish them, for tests of who reads them."""

from __future__ import annotations

import hashlib
import io
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.arrays import Array
from schemas.datasets import HoldOut, Manifest, Part
from schemas.events import (
    DataFailed,
    DataReady,
    FoldEvent,
    FoldFailed,
    FoldPart,
    FoldReturned,
    FoldStarted,
    FoldTested,
    FoldTrained,
    FoldValidated,
    Measurements,
)
from schemas.frozen import Message
from schemas.messages import DataMessage, FoldMessage
from schemas.states import Culprit, FailureKind, Phase, Visibility
from schemas.topology import EVENTS, WORK
from schemas.verdicts import Verdict
from schemas.wire import Envelope, pack
from storage.labels import FetchedLabels

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
N_TRAIN, N_TEST = 6, 4
CLASSES = np.array(["setosa", "virginica"])
Y_TRAIN = CLASSES[[0, 1, 0, 1, 0, 1]]
Y_TEST = CLASSES[[0, 0, 1, 1]]
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8]] * 3)
"""Right on every training row."""

TEST_PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])
"""Right on three of the four test rows."""

_ids = itertools.count(1)


def from_client(message: Message, key: str, **properties: Any) -> Envelope:
    """As it arrives from exchange `datarun.work`."""
    return _delivered(pack(message, key, **properties), WORK)


def from_worker(message: Message, key: str | None = None) -> Envelope:
    """As it arrives from exchange `datarun.events`."""
    if key is None:
        key = (
            f"fold.{message.submission_fold_id}" if isinstance(message, FoldEvent) else "data.iris"
        )
    return _delivered(pack(message, key), EVENTS)


def fold(fold_id: int = 11, run_id: str | None = None, **fields: Any) -> Envelope:
    """A fold message."""
    pool = fields.get("pool", "default")
    return from_client(fold_message(fold_id, **fields), f"folds.{pool}", message_id=run_id)


def fold_message(fold_id: int = 11, **fields: Any) -> FoldMessage:
    """A fold on the rows of `iris`."""
    given: dict[str, Any] = {
        "submission_fold_id": fold_id,
        "submission_id": 1,
        "dataset": "iris",
        "files": {"classifier.py": "class Classifier: ..."},
        "train_is": [0, 1, 2, 3],
        "test_is": [4, 5],
    }
    return FoldMessage(**(given | fields))


def started(run_id: str, fold_id: int = 11, **fields: Any) -> FoldStarted:
    """A worker begins a run."""
    return FoldStarted(**_about(run_id, fold_id, 1, dataset=manifest().reference, **fields))


def trained(run_id: str, fold_id: int = 11, **fields: Any) -> FoldTrained:
    """`fit` returned."""
    return FoldTrained(
        **_about(run_id, fold_id, 2, measurements=Measurements(train_time=1.5), **fields)
    )


def validated(run_id: str, fold_id: int = 11, **fields: Any) -> FoldValidated:
    """All training rows are predicted."""
    measured = Measurements(train_time=1.5, validation_time=0.5)
    return FoldValidated(**_about(run_id, fold_id, 3, measurements=measured, **fields))


def success(run_id: str, fold_id: int = 11, **fields: Any) -> FoldTested:
    """The fold succeeded."""
    given: dict[str, Any] = {
        "dataset": manifest().reference,
        "full_train_predictions": PROBABILITIES,
        "test_predictions": TEST_PROBABILITIES,
        "measurements": Measurements(train_time=1.5, validation_time=0.5, test_time=0.25),
    }
    return FoldTested(**_about(run_id, fold_id, 4, **(given | fields)))


def failure(run_id: str, fold_id: int = 11, **fields: Any) -> FoldFailed:
    """`fit` raised."""
    verdict = Verdict(
        phase=Phase.TRAIN,
        kind=FailureKind.EXCEPTION,
        culprit=Culprit.SUBMISSION,
        message="ValueError: no",
    )
    return FoldFailed(**_about(run_id, fold_id, 4, **({"verdict": verdict} | fields)))


def returned(run_id: str, fold_id: int = 11, **fields: Any) -> FoldReturned:
    """The worker gives the run back."""
    return FoldReturned(**_about(run_id, fold_id, 4, reason="shutting down", **fields))


def success_in_parts(
    run_id: str, fold_id: int, predictions: npt.NDArray[Any], size: int, **fields: Any
) -> tuple[list[FoldPart], FoldTested]:
    """A success whose training predictions travel in pieces of `size` characters."""
    whole, texts = Array.of(predictions).split(size)
    parts = [
        FoldPart(
            **_about(
                run_id,
                fold_id,
                3,
                array="full_train_predictions",
                index=index,
                count=len(texts),
                data=text,
                **fields,
            )
        )
        for index, text in enumerate(texts)
    ]
    return parts, success(run_id, fold_id, full_train_predictions=whole, **fields)


def data_message(name: str = "iris", **fields: Any) -> DataMessage:
    """A CSV file to be split."""
    given: dict[str, Any] = {
        "name": name,
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"iris.csv": "length,species\n1,setosa\n2,virginica\n"},
        "split": HoldOut(0.5),
    }
    return DataMessage(**(given | fields))


def manifest(name: str = "iris", *, blobs: str = "a", **fields: Any) -> Manifest:
    """A version of `iris`; `blobs` tells where this copy of its parts is."""
    y_train, y_test = npy(Y_TRAIN), npy(Y_TEST)
    contents = (
        ("X_train", Visibility.PUBLIC, b"x"),
        ("y_train", Visibility.PUBLIC, y_train),
        ("X_test", Visibility.PUBLIC, b"x"),
        ("y_test", Visibility.SECRET, y_test),
    )
    given: dict[str, Any] = {
        "name": name,
        "target_column": "species",
        "workflow_elements": "classifier",
        "split": HoldOut(0.5),
        "n_train": N_TRAIN,
        "n_test": N_TEST,
        "columns": ("length",),
        "classes": CLASSES,
        "parts": tuple(
            Part(
                name=part,
                format="npy",
                visibility=visibility,
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                blob=f"{blobs}-{part}",
            )
            for part, visibility, data in contents
        ),
    }
    return Manifest(**(given | fields))


def data_ready(message_id: str, of: Manifest | None = None) -> DataReady:
    """A prepare worker has split the data set of that message."""
    return DataReady(message_id=message_id, worker="prepare-1", at=START, manifest=of or manifest())


def data_failed(message_id: str, name: str = "iris") -> DataFailed:
    """A data set that could not be split."""
    verdict = Verdict(
        phase=Phase.DATA,
        kind=FailureKind.DATA,
        culprit=Culprit.ORGANISER,
        message="data: there is no column 'species'",
    )
    return DataFailed(message_id=message_id, name=name, worker="w1", at=START, verdict=verdict)


def labels() -> FetchedLabels:
    """The labels of `manifest`."""
    return FetchedLabels(y_train=npy(Y_TRAIN), y_test=npy(Y_TEST))


def npy(values: npt.NDArray[Any]) -> bytes:
    """An array as an npy file."""
    target = io.BytesIO()
    np.save(target, values)
    return target.getvalue()


def new_id() -> int:
    """A fold id that no other test of this process uses."""
    return next(_ids)


def _about(run_id: str, fold_id: int, second: int, **fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "run_id": run_id,
        "attempt_id": "attempt-1",
        "submission_fold_id": fold_id,
        "worker": "worker-1",
        "at": START + timedelta(seconds=second),
    }
    return given | fields


def _delivered(envelope: Envelope, exchange: str) -> Envelope:
    return replace(envelope, exchange=exchange)


def content_of(part: str) -> bytes:
    """What a part of `manifest` holds."""
    return {"y_train": npy(Y_TRAIN), "y_test": npy(Y_TEST)}.get(part, b"x")
