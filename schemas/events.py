"""What workers report. Not fenced: a killed worker and its successor may both speak."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.arrays import MAX_PARTS, AnyArray
from schemas.datasets import DatasetName, Manifest
from schemas.frozen import Frozen, Id, Instant, Message
from schemas.states import FoldState, Role
from schemas.verdicts import Output, Verdict

Seconds = Annotated[float, Field(ge=0)]
Kilobytes = Annotated[float, Field(ge=0)]

PartNumber = Annotated[int, Field(ge=0, lt=MAX_PARTS)]

PredictionsName = Literal["full_train_predictions", "test_predictions"]


class Measurements(Frozen):
    """What one fold used; None for a phase that was not reached. The clocks are the worker's."""

    train_time: Seconds | None = None
    """Wall seconds."""

    validation_time: Seconds | None = None
    test_time: Seconds | None = None
    train_cpu_time: Seconds | None = None
    """CPU seconds, children included."""

    test_cpu_time: Seconds | None = None
    train_memory: Kilobytes | None = None
    """Peak kB of this fold alone, up to the end of training."""

    test_memory: Kilobytes | None = None
    """Peak kB of this fold alone, up to its end."""

    memory_source: Literal["cgroup", "sampled"] | None = None


class FoldEvent(Message):
    """What every event of a fold says."""

    run_id: str
    attempt_id: str
    """New at each start of the run."""

    submission_fold_id: Id
    worker: str
    at: Instant


class FoldStarted(FoldEvent):
    """A worker has begun: the message is parsed, the data set is there, the process forked."""

    TYPE: ClassVar[str] = "datarun.fold-started.v1"

    dataset: str
    """`name@version`, resolved."""


class FoldTrained(FoldEvent):
    """`fit` returned."""

    TYPE: ClassVar[str] = "datarun.fold-trained.v1"

    measurements: Measurements


class FoldValidated(FoldEvent):
    """All training rows are predicted."""

    TYPE: ClassVar[str] = "datarun.fold-validated.v1"

    measurements: Measurements


class FoldPart(FoldEvent):
    """One piece of a prediction array too large for one message; sent before the final event."""

    TYPE: ClassVar[str] = "datarun.fold-part.v1"

    array: PredictionsName
    index: PartNumber
    count: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    data: str


class FoldTested(FoldEvent):
    """The fold succeeded. Final."""

    TYPE: ClassVar[str] = "datarun.fold-tested.v1"

    dataset: str
    full_train_predictions: AnyArray
    """All training rows: (n_train, n_classes) probabilities or (n_train,) values."""

    test_predictions: AnyArray
    measurements: Measurements
    output: Output = Output()


class FoldFailed(FoldEvent):
    """The fold failed; with everything that was produced before the failing phase. Final."""

    TYPE: ClassVar[str] = "datarun.fold-failed.v1"

    dataset: str | None = None
    verdict: Verdict
    full_train_predictions: AnyArray | None = None
    measurements: Measurements = Measurements()
    output: Output = Output()


class FoldReturned(FoldEvent):
    """A worker that shuts down gives the fold back unfinished; the attempt does not count."""

    TYPE: ClassVar[str] = "datarun.fold-returned.v1"

    reason: str


class DataReady(Message):
    """A data set is split, and its parts are stored."""

    TYPE: ClassVar[str] = "datarun.data-ready.v1"

    message_id: str
    """The run id of the DataMessage."""

    worker: str
    at: Instant
    manifest: Manifest
    output: Output = Output()


class DataFailed(Message):
    """A data set could not be split."""

    TYPE: ClassVar[str] = "datarun.data-failed.v1"

    message_id: str
    name: DatasetName
    worker: str
    at: Instant
    verdict: Verdict
    output: Output = Output()


class RunningFold(Frozen):
    """One busy slot."""

    run_id: str
    submission_fold_id: Id
    state: FoldState
    since: Instant


class WorkerHeartbeat(Message):
    """A worker is alive; transient, every few seconds, and once when it stops."""

    TYPE: ClassVar[str] = "datarun.heartbeat.v1"

    worker: Annotated[str, Field(max_length=200)]
    """It names a queue too, and queues' names have 255 bytes."""

    role: Role
    pool: str
    host: str
    pid: int
    slots: int
    running: tuple[RunningFold, ...] = ()
    stopping: bool = False
    stopped: bool = False
    at: Instant
