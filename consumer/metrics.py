"""What workers count. Labels have few values: never an id, never a word of a submission."""

from __future__ import annotations

from broker.metrics import SECONDS, Counter, Gauge, Histogram
from schemas.events import Measurements
from schemas.states import FoldState, Phase
from schemas.verdicts import Verdict

SLOTS = Gauge("datarun_slots", "Folds, or data sets, that this worker can run at one time.")
BUSY_SLOTS = Gauge("datarun_slots_busy", "Slots that run a fold now.")

QUEUE_SECONDS = Histogram(
    "datarun_fold_queue_seconds",
    "From when a fold's message was published until its process was started.",
    buckets=SECONDS,
)
FOLD_SECONDS = Histogram(
    "datarun_fold_seconds", "From taking a fold until its verdict is published.", buckets=SECONDS
)
PHASE_SECONDS = Histogram(
    "datarun_fold_phase_seconds",
    "Wall seconds of the phases that folds have ended.",
    ["phase"],
    buckets=SECONDS,
)
FOLDS = Counter(
    "datarun_folds",
    "Folds that ended here. Without kind and culprit: they succeeded.",
    ["state", "kind", "culprit"],
)
DELIVERIES = Counter(
    "datarun_deliveries",
    "Deliveries of the folds queue by what became of them: ended, duplicate, cancelled, dropped, "
    "runs_elsewhere, waits_for_dataset, returned, adopted.",
    ["outcome"],
)
DEAD_LETTERED = Counter(
    "datarun_dead_lettered", "Messages that this worker could not read and has put aside."
)

CACHE_BYTES = Gauge("datarun_dataset_cache_bytes", "Bytes in the data-set cache.")
CACHE_HITS = Counter("datarun_dataset_cache_hits", "Folds that found their data set in the cache.")
CACHE_MISSES = Counter("datarun_dataset_cache_misses", "Data sets that had to be fetched.")
CACHE_EVICTIONS = Counter(
    "datarun_dataset_cache_evictions", "Data sets that were deleted to make room for others."
)

DATASETS = Counter(
    "datarun_datasets_prepared",
    "Data sets that were split here, by kind and culprit where that failed.",
    ["state", "kind", "culprit"],
)
PREPARE_SECONDS = Histogram(
    "datarun_dataset_prepare_seconds",
    "From taking a data set until its parts are stored.",
    buckets=SECONDS,
)


def verdict_labels(verdict: Verdict | None) -> tuple[str, str]:
    """Kind and culprit; empty when all went well."""
    return ("", "") if verdict is None else (verdict.kind.value, verdict.culprit.value)


def fold_ended(verdict: Verdict | None) -> None:
    """A fold has ended here."""
    state = FoldState.TESTED if verdict is None else FoldState.ERROR
    FOLDS.labels(state.value, *verdict_labels(verdict)).inc()


def phases_ended(measured: Measurements) -> None:
    """What a fold measured, phase by phase."""
    for phase, seconds in (
        (Phase.TRAIN, measured.train_time),
        (Phase.VALIDATION, measured.validation_time),
        (Phase.TEST, measured.test_time),
    ):
        if seconds is not None:
            PHASE_SECONDS.labels(phase.value).observe(seconds)
