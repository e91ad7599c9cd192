"""From what a caller says of a fold to its message: pinned, checked, ready to publish."""

from __future__ import annotations

import difflib
import logging
import threading
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy.typing as npt

from broker.blocking import BlockingLink
from producer.arguments import built, limits, row_indices, whole_number
from producer.collector import Collector
from producer.files import FilesArgument, submission_files
from schemas.datasets import STANDARD_WORKFLOWS, DatasetReference, HoldOut, workflow_elements
from schemas.errors import CollectorUnreachable, MessageError, TopologyError
from schemas.messages import FoldMessage, row_numbers
from schemas.requests import DatasetRecord
from schemas.states import DatasetState
from schemas.topology import folds_queue

REMEMBER_SECONDS = 5.0
"""How long the newest version of a data set is not asked for again. Somebody else may publish the
data set anew meanwhile; a fold is pinned then to the version that was the newest just before."""

_PATIENCE = 5.0
"""Seconds to wait for the collector's word on a version. Publishing folds does not need it: they
go out unpinned, for the version that is the newest when they start."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A version of a data set that is ready for folds."""

    name: str
    version: str
    n_train: int
    n_test: int
    classes: npt.NDArray[Any] | None
    """Sorted class labels, of shape (n_classes,); None for regression."""

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def __str__(self) -> str:
        return self.reference


@dataclass(frozen=True)
class _Known:
    """What is known of a data set that a caller named, until when."""

    reference: str
    n_train: int | None
    until: float
    unused: frozenset[str] = frozenset()
    """Files of elements that standard workflows have, but this one has not."""

    needed: tuple[str, ...] = ()
    """Files of the workflow's elements."""


class FoldMessages:
    """Builds fold messages; remembers data sets and pools that it has asked for."""

    def __init__(self, link: BlockingLink, collector: Collector, timeout: float) -> None:
        self._link = link
        self._collector = collector
        self._timeout = timeout
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._pools: set[str] = set()

    def remember(self, dataset: Dataset) -> None:
        """This client has published it: from now on its name means this version."""
        known = _Known(dataset.reference, dataset.n_train, time.monotonic() + REMEMBER_SECONDS)
        with self._lock:
            self._known[dataset.name] = known

    def check_files(self, reference: str, files: Iterable[str]) -> None:
        """Raises MessageError that names the workflow's files that are not there."""
        needed = self._dataset(reference).needed
        there = set(files)
        missing = [name for name in needed if name not in there]
        if missing:
            close = difflib.get_close_matches(missing[0], there, n=1)
            instead = f"; there is {close[0]!r}" if close else ""
            raise MessageError(
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing{instead}. "
                f"A submission to {reference} has {' and '.join(needed)}"
            )

    def warn_of_unused(self, reference: str, files: Iterable[str], *, stacklevel: int) -> None:
        """UserWarning of files that are named as elements which the data set does not use."""
        unused = sorted(self._dataset(reference).unused.intersection(files))
        if unused:
            warnings.warn(
                f"{', '.join(unused)}: not an element of the workflow of {reference}, so it is "
                "not used, unless another file imports it",
                UserWarning,
                stacklevel=stacklevel + 1,
            )

    def build(self, fold: FoldMessage | Mapping[str, Any]) -> FoldMessage:
        """The message to publish.

        Raises MessageError (FileError, ArrayError), TopologyError for a pool without a queue, and
        BrokerUnreachable.
        """
        message = fold if isinstance(fold, FoldMessage) else _message(**fold)
        known = self._dataset(message.dataset)
        if known.n_train is not None:
            _check_range(message, known)
        self._check_pool(message.pool)
        return message.model_copy(update={"dataset": known.reference})

    def _dataset(self, reference: str) -> _Known:
        with self._lock:
            known = self._known.get(reference)
        if known is None or time.monotonic() >= known.until:
            known = self._ask(DatasetReference.parse(reference))
            with self._lock:
                self._known[reference] = known
        return known

    def _ask(self, reference: DatasetReference) -> _Known:
        soon = time.monotonic() + REMEMBER_SECONDS
        try:
            records = self._collector.datasets(
                reference.name, reference.version, seconds=min(_PATIENCE, self._timeout)
            )
        except CollectorUnreachable as error:
            _LOG.warning("folds for %s are published without a check: %s", reference, error)
            return _Known(str(reference), None, soon)
        if reference.version and not records:
            raise MessageError(
                f"dataset: there is no data set {reference}; it may have been superseded and "
                "deleted. `datarun data list` shows what there is"
            )
        ready = [record for record in records if record.state is DatasetState.READY]
        if not ready:
            return _Known(str(reference), None, soon)
        version = reference.version or ready[0].version
        pinned = DatasetReference(reference.name, version)
        # A version never changes; a name's newest one does.
        until = float("inf") if reference.version else soon
        return _Known(str(pinned), ready[0].n_train, until, _unused(ready[0]), _needed(ready[0]))

    def _check_pool(self, pool: str) -> None:
        # A pool without a queue is not returned by the broker: the collector's binding takes it.
        with self._lock:
            if pool in self._pools:
                return
        if self._link.queue_depth(folds_queue(pool), deadline=self._timeout) is None:
            raise TopologyError(
                f"pool {pool!r} has no queue on this broker: name it in DATARUN_POOLS and run "
                "`datarun broker setup`"
            )
        with self._lock:
            self._pools.add(pool)


def _needed(record: DatasetRecord) -> tuple[str, ...]:
    return tuple(f"{element}.py" for element in workflow_elements(record.workflow_elements))


def _unused(record: DatasetRecord) -> frozenset[str]:
    if record.manifest is None or not isinstance(record.manifest.split, HoldOut):
        return frozenset()  # custom code may use any file
    used = workflow_elements(record.workflow_elements)
    known = {element for workflow in STANDARD_WORKFLOWS for element in workflow}
    return frozenset(f"{element}.py" for element in known.difference(used))


def _message(
    *,
    submission_fold_id: SupportsIndex,
    submission_id: SupportsIndex,
    dataset: str | Dataset,
    files: FilesArgument,
    train_is: npt.ArrayLike,
    test_is: npt.ArrayLike,
    **options: Any,
) -> FoldMessage:
    if options.get("limits") is not None:
        options["limits"] = limits(options["limits"])
    return built(
        FoldMessage,
        submission_fold_id=whole_number("submission_fold_id", submission_fold_id),
        submission_id=whole_number("submission_id", submission_id),
        dataset=str(dataset),
        files=submission_files(files),
        train_is=row_indices("train_is", train_is),
        test_is=row_indices("test_is", test_is),
        **{name: value for name, value in options.items() if value is not None},
    )


def _check_range(message: FoldMessage, known: _Known) -> None:
    for name, indices in (("train_is", message.train_is), ("test_is", message.test_is)):
        largest = int(row_numbers(indices).max())
        if known.n_train is not None and largest >= known.n_train:
            raise MessageError(
                f"{name}: index {largest} is out of range: {known.reference} has {known.n_train} "
                f"training rows, 0 to {known.n_train - 1}"
            )
