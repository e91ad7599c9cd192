"""Requests to the collector, and its replies.

A request goes to exchange `datarun.work` with key `request` and a reply-to; it passes through the
collector's one queue, so it sees everything its sender published before. Replies are paged:
none is larger than a message may be.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from schemas.arrays import AnyArray
from schemas.datasets import DatasetName, Manifest
from schemas.events import PartNumber, PredictionsName, WorkerHeartbeat
from schemas.frozen import MAX_ID, Frozen, Id, Instant, Message
from schemas.messages import Indices
from schemas.results import DatasetResult, FoldResult
from schemas.states import DatasetState, FoldState, Priority


class ResultsRequest(Message):
    """Results of given folds (`submission_fold_ids`), or everything that is new.

    Only the current run of each fold is seen. Pages: pass the reply's `cursor` on until None.
    """

    TYPE: ClassVar[str] = "datarun.results-request.v1"

    submission_fold_ids: tuple[Id, ...] | None = None
    """Of these folds, those that have ended; None for every ended fold that is new."""

    dataset: DatasetName | None = None
    with_predictions: bool = True
    cursor: Id = 0


class FoldRecord(FoldResult):
    """A stored verdict with everything that belongs to it."""

    TYPE: ClassVar[str] = "datarun.fold-record.v1"

    new: bool
    log_messages: str
    submission_name: str | None = None
    """Where its publisher has given one."""

    classes: AnyArray | None = None
    full_train_predictions: AnyArray | None = None
    """May come as `parts`: fetch each with a PartRequest."""

    test_predictions: AnyArray | None = None


class ResultsReply(Message):
    """One page of results."""

    TYPE: ClassVar[str] = "datarun.results-reply.v1"

    results: tuple[FoldRecord, ...]
    cursor: int | None
    """Where the next page begins; None at the end."""


class PartRequest(Message):
    """One piece of a stored prediction array."""

    TYPE: ClassVar[str] = "datarun.part-request.v1"

    run_id: str
    array: PredictionsName
    index: PartNumber


class PartReply(Message):
    """The piece: base64 text, to be joined by `Array.joined`."""

    TYPE: ClassVar[str] = "datarun.part-reply.v1"

    data: str


class DatasetsRequest(Message):
    """What is known of one data set, or of all."""

    TYPE: ClassVar[str] = "datarun.datasets-request.v1"

    name: DatasetName | None = None
    version: str | None = None
    message_id: str | None = None
    """The data set as that DataMessage left it."""


class DatasetRecord(DatasetResult):
    """A data set as it stands."""

    TYPE: ClassVar[str] = "datarun.dataset-record.v1"

    target_column: str | None
    workflow_elements: str
    log_messages: str
    manifest: Manifest | None = None


class DatasetsReply(Message):
    """The data sets asked for; empty when there is none of that name."""

    TYPE: ClassVar[str] = "datarun.datasets-reply.v1"

    datasets: tuple[DatasetRecord, ...]


class CrossValidateRequest(Message):
    """Allot an unused submission id and `cv` unused fold ids, and cut the folds.

    Shuffled with `random_state`; stratified when the data set has classes.
    """

    TYPE: ClassVar[str] = "datarun.cross-validate-request.v1"

    dataset: str
    """`name`, or `name@version`."""

    cv: Annotated[int, Field(ge=2, le=1000)]
    random_state: Annotated[int, Field(ge=0, lt=2**32)] = 42


class AllottedFold(Frozen):
    """One fold of a cross-validation; it trains on all rows but `test_is`."""

    submission_fold_id: Id
    test_is: Indices


class CrossValidateReply(Message):
    """The allotted ids; nobody else is given them."""

    TYPE: ClassVar[str] = "datarun.cross-validate-reply.v1"

    submission_id: Id
    dataset: str
    """`name@version`."""

    n_train: int
    folds: tuple[AllottedFold, ...]


class FoldsRequest(Message):
    """Folds in the order of their ids, without predictions."""

    TYPE: ClassVar[str] = "datarun.folds-request.v1"

    submission_fold_ids: tuple[Id, ...] | None = None
    submission_id: Id | None = None
    dataset: DatasetName | None = None
    state: FoldState | None = None
    after: Annotated[int, Field(ge=-1, le=MAX_ID)] = -1
    """Only ids greater than this."""

    last: Annotated[int, Field(ge=1, le=MAX_ID)] | None = None
    """Begin so many folds before the end; not heeded with `submission_fold_ids`."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class FoldSummary(Frozen):
    """One fold as it stands."""

    submission_fold_id: Id
    submission_id: Id
    submission_name: str | None = None
    """Where its publisher has given one."""

    dataset: str
    state: FoldState
    new: bool
    """It has ended, and nobody has acknowledged its result."""

    priority: Priority
    pool: str
    run_id: str
    generation: int
    attempts: int
    worker: str | None
    """Who runs it, or ran it last."""

    published_at: Instant


class FoldsReply(Message):
    """One page of folds; the next begins after the last id."""

    TYPE: ClassVar[str] = "datarun.folds-reply.v1"

    folds: tuple[FoldSummary, ...]
    more: bool
    count: int | None = None
    """On a page that was asked for with `last`: how many there are in all."""


class StatusRequest(Message):
    """How the whole service stands, as the collector sees it."""

    TYPE: ClassVar[str] = "datarun.status-request.v1"


class StatusReply(Message):
    """Counts and workers."""

    TYPE: ClassVar[str] = "datarun.status-reply.v1"

    folds: dict[FoldState, int]
    pools: dict[str, int] = {}
    """Folds in state TODO, by pool."""

    new: int
    datasets: dict[DatasetState, int]
    workers: tuple[WorkerHeartbeat, ...]
    """The last heartbeat of each worker that is alive."""

    outbox: int
    """Stored verdicts that are not yet published."""

    ignored_events: int
    """Events that did not apply: duplicates, of superseded runs, after the end."""

    database: Literal["sqlite", "postgresql"]


class Acknowledged(Message):
    """Reply to an AcknowledgeMessage or a CancelMessage that has a reply-to: it is committed."""

    TYPE: ClassVar[str] = "datarun.acknowledged.v1"

    count: int


class ErrorReply(Message):
    """The collector refuses the request; the sentence says why."""

    TYPE: ClassVar[str] = "datarun.error-reply.v1"

    message: str
    temporary: bool = False
    """The same request may be answered a little later: the database is away."""

    details: dict[str, Any] = {}
