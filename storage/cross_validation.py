"""Cutting a data set's training rows into the folds of a cross-validation."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from schemas.arrays import Array
from schemas.datasets import DatasetReference
from schemas.errors import MessageError, RequestError
from schemas.requests import AllottedFold, CrossValidateReply, CrossValidateRequest
from schemas.states import DatasetState
from schemas.verdicts import Verdict
from storage.allotment import allot_folds, allot_submission
from storage.datasets import newest_version
from storage.labels import LabelsCache
from storage.models import Dataset
from storage.scoring import Labels


def cut_folds(
    connection: Connection, request: CrossValidateRequest, cache: LabelsCache
) -> CrossValidateReply:
    """Allot ids and cut the folds. Raises RequestError saying why that cannot be done."""
    try:
        reference = DatasetReference.parse(request.dataset)
    except MessageError as error:
        raise RequestError(str(error)) from error
    version = reference.version or newest_version(connection, reference.name)
    labels = cache.get(connection, reference.name, version)
    if labels is None or version is None:
        raise RequestError(_why_missing(connection, reference))
    cut = validation_rows(labels, request.cv, request.random_state)
    submission_id = allot_submission(connection)
    fold_ids = allot_folds(connection, request.cv)
    return CrossValidateReply(
        submission_id=submission_id,
        dataset=f"{reference.name}@{version}",
        n_train=len(labels.y_train),
        folds=tuple(
            AllottedFold(submission_fold_id=fold_id, test_is=Array.of(rows))
            for fold_id, rows in zip(fold_ids, cut, strict=True)
        ),
    )


def validation_rows(labels: Labels, cv: int, random_state: int) -> list[npt.NDArray[np.int64]]:
    """The rows of each fold: scikit-learn's StratifiedKFold where there are classes, else KFold,
    shuffled.

    A class with fewer rows than folds is in as many folds as it has rows. Raises RequestError
    when there are fewer rows than folds, or when every class has fewer.
    """
    # Imported when first needed: it takes most of a second.
    from sklearn.model_selection import KFold, StratifiedKFold

    y = labels.y_train
    if cv > len(y):
        raise RequestError(f"cv={cv} folds need as many rows, and there are {len(y)} to train on")
    if labels.classes is None or y.ndim != 1:
        cutter = KFold(cv, shuffle=True, random_state=random_state)
        return [rows for _, rows in cutter.split(np.zeros(len(y)))]
    largest = int(np.unique(y, return_counts=True)[1].max())
    if cv > largest:
        raise RequestError(
            f"cv={cv} folds cannot be stratified: the largest class has {largest} rows "
            f"to train on; ask for at most {largest} folds"
        )
    with warnings.catch_warnings():
        # About a class with fewer rows than folds, which is said above.
        warnings.simplefilter("ignore", UserWarning)
        stratified = StratifiedKFold(cv, shuffle=True, random_state=random_state)
        return [rows for _, rows in stratified.split(np.zeros(len(y)), y)]


def _why_missing(connection: Connection, reference: DatasetReference) -> str:
    newest = connection.execute(
        select(Dataset.state, Dataset.verdict)
        .where(Dataset.name == reference.name)
        .order_by(Dataset.id.desc())
        .limit(1)
    ).one_or_none()
    if newest is None:
        return f"nobody has published a data set {reference.name!r}"
    if reference.version is not None:
        return f"data set {reference.name!r} has no version {reference.version}"
    if newest.state == DatasetState.FAILED:
        verdict = Verdict.model_validate_json(newest.verdict)
        return f"data set {reference.name!r} could not be prepared: {verdict.message}"
    return f"data set {reference.name!r} is still being prepared"
