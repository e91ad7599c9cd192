"""What every worker must know, kept in the control stream and read when it starts."""

from __future__ import annotations

from typing import ClassVar

from schemas.datasets import DatasetName, Manifest
from schemas.frozen import Id, Instant, Message
from schemas.verdicts import Verdict


class DatasetAnnounced(Message):
    """A data set has a new version, or could not be prepared."""

    TYPE: ClassVar[str] = "datarun.dataset-announced.v1"

    name: DatasetName
    manifest: Manifest | None
    """None when preparing it failed; earlier versions stay usable by name@version."""

    verdict: Verdict | None = None
    newest: bool = True
    """False for an older version that folds may still name."""

    at: Instant


class DatasetWithdrawn(Message):
    """A superseded version is deleted; folds that name it fail."""

    TYPE: ClassVar[str] = "datarun.dataset-withdrawn.v1"

    name: DatasetName
    version: str


class RunCancelled(Message):
    """Stop this run if it is running, and drop its message when it is delivered."""

    TYPE: ClassVar[str] = "datarun.run-cancelled.v1"

    run_id: str
    submission_fold_id: Id
    reason: str
    at: Instant


class ControlNonce(Message):
    """Published by a worker that reads the stream: up to here, it is up to date."""

    TYPE: ClassVar[str] = "datarun.control-nonce.v1"

    nonce: str
