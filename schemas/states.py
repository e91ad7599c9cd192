"""The closed vocabularies: states, priorities, phases, kinds of failure, culprits, roles."""

from __future__ import annotations

from enum import StrEnum


class FoldState(StrEnum):
    """Where a submission on a CV fold stands. Terminal: TESTED, ERROR, CANCELLED."""

    TODO = "TODO"
    """Published, and no worker has finished a phase of it."""

    TRAINED = "TRAINED"
    """`fit` returned on the training rows."""

    VALIDATED = "VALIDATED"
    """All training rows are predicted."""

    TESTED = "TESTED"
    """The test rows are predicted too: the fold succeeded."""

    ERROR = "ERROR"
    """The fold failed; its verdict says in which phase, why, and whose fault it was."""

    CANCELLED = "CANCELLED"
    """Somebody asked for the fold to be stopped before it ended."""

    @property
    def is_terminal(self) -> bool:
        """Whether the fold has its verdict."""
        return self in TERMINAL

    @property
    def progress(self) -> int:
        """Order of the states: an event never takes a run back to an earlier one."""
        return _PROGRESS[self]


TERMINAL = frozenset({FoldState.TESTED, FoldState.ERROR, FoldState.CANCELLED})
_PROGRESS = {
    FoldState.TODO: 0,
    FoldState.TRAINED: 1,
    FoldState.VALIDATED: 2,
    FoldState.TESTED: 3,
    FoldState.ERROR: 3,
    FoldState.CANCELLED: 3,
}


class DatasetState(StrEnum):
    """Where a published data set stands. Terminal: READY, FAILED."""

    TODO = "TODO"
    """Published, and not yet split."""

    READY = "READY"
    """Split into an immutable version that folds can use."""

    FAILED = "FAILED"
    """Could not be prepared; its verdict says why."""


class Priority(StrEnum):
    """How urgent a fold is."""

    L = "L"
    """Low: the default."""

    H = "H"
    """High: overtakes every waiting L."""

    @property
    def level(self) -> int:
        """The AMQP priority: 1 or 5 (on RabbitMQ 4.0 to 4.2, quorum queues call 5 and up high)."""
        return 5 if self is Priority.H else 1


class Phase(StrEnum):
    """The part of a fold's life in which something happened."""

    DATA = "data"
    """Before training: the message, the data set, the indices."""

    TRAIN = "train"
    """Importing the submission and fitting it."""

    VALIDATION = "validation"
    """Predicting all training rows."""

    TEST = "test"
    """Predicting the test rows."""

    @property
    def marker(self) -> str:
        """The text that databoard looks for at the end of `log_messages`."""
        return f"ERROR({'split data' if self is Phase.DATA else self.value})"


class FailureKind(StrEnum):
    """What went wrong."""

    EXCEPTION = "exception"
    """The code raised."""

    TIMEOUT = "timeout"
    """A wall-clock or CPU limit was reached."""

    MEMORY = "memory"
    """The memory limit was reached."""

    CRASHED = "crashed"
    """The process died of a signal, or left without a result."""

    BAD_OUTPUT = "bad_output"
    """Predictions of the wrong length, shape, type, or not finite."""

    CANCELLED = "cancelled"
    """Stopped on request."""

    REJECTED = "rejected"
    """The message could not be accepted as it stands."""

    WORKER_LOST = "worker_lost"
    """Its worker died too many times."""

    DATA = "data"
    """The data set is missing, failed, or does not fit."""


class Culprit(StrEnum):
    """Whose fault a failure is."""

    SUBMISSION = "submission"
    """The submitted code."""

    ORGANISER = "organiser"
    """The data, or the organiser's own code."""

    PUBLISHER = "publisher"
    """Whoever published the message."""

    INFRASTRUCTURE = "infrastructure"
    """datarun, RabbitMQ, the machines."""


class Role(StrEnum):
    """What a worker takes from the queues."""

    FOLDS = "folds"
    """Trains and tests submissions; never sees raw data nor test labels."""

    PREPARE = "prepare"
    """Splits data sets; never runs a submission."""


class Isolation(StrEnum):
    """How far a fold is kept from the host and from other folds."""

    STRICT = "strict"
    """Own namespaces, unprivileged user, system-call filter, no network."""

    PROCESS = "process"
    """An own process with limits; it shares user, files and network with the worker."""

    NONE = "none"
    """As `process`, without limits on memory, CPU time and processes; for debugging only."""


class Visibility(StrEnum):
    """Who may read a data-set part."""

    PUBLIC = "public"
    """Workers of role folds, and everybody left of them."""

    RAW = "raw"
    """Uploaded data, with all labels: workers of role prepare."""

    SECRET = "secret"
    """Test labels: the collector."""
