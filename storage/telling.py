"""What the log and the metrics say of a batch, once it is committed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from schemas.events import DataFailed, DataReady
from schemas.messages import DataMessage, FoldMessage
from schemas.topology import REASON_HEADER
from schemas.verdicts import Verdict
from storage import metrics
from storage.apply import Applied
from storage.incoming import Incoming
from storage.runs import Run

logger = logging.getLogger(__name__)


def tell(batch: Sequence[Incoming], applied: Applied, seconds: float) -> None:
    """Log and count what came, and what became of it."""
    metrics.BATCH_MESSAGES.observe(len(batch))
    metrics.BATCH_SECONDS.observe(seconds)
    for item in batch:
        _tell_of_message(item)
    for run in applied.ended:
        tell_of_result(run)
    for row in applied.ignored:
        metrics.IGNORED.labels(metrics.ignored_reason(row["kind"])).inc()
        logger.info(
            "changed nothing: %s",
            row["reason"],
            extra={
                "action": "message_ignored",
                "kind": row["kind"],
                "run_id": row["run_id"],
                "submission_fold_id": row["submission_fold_id"],
            },
        )


def _tell_of_message(item: Incoming) -> None:
    envelope, message = item.envelope, item.message
    metrics.STORED.labels(metrics.known_type(message.TYPE if message is not None else None)).inc()
    if item.is_dead_letter:
        metrics.DEAD_LETTERS.inc()
        logger.warning(
            "a dead letter: %s",
            envelope.headers.get(REASON_HEADER, "nothing says why"),
            extra={"action": "dead_letter_seen", "run_id": envelope.run_id},
        )
        return
    match message:
        case FoldMessage():
            logger.info(
                "fold received",
                extra={
                    "action": "fold_received",
                    "run_id": envelope.run_id,
                    "submission_fold_id": message.submission_fold_id,
                    "submission_id": message.submission_id,
                    "dataset": message.dataset,
                },
            )
        case DataMessage():
            _tell_of_data("data_received", envelope.run_id, message.name)
        case DataReady():
            name = message.manifest.reference
            _tell_of_data("data_stored", message.message_id, name, message.worker)
        case DataFailed():
            _tell_of_data("data_failure_stored", message.message_id, message.name, message.worker)


def _tell_of_data(action: str, run_id: str, dataset: str, worker: str | None = None) -> None:
    ids = {"action": action, "run_id": run_id, "dataset": dataset, "worker": worker}
    logger.info(action.replace("_", " "), extra=ids)


def tell_of_result(run: Run) -> None:
    """Log and count a verdict that is committed."""
    verdict = Verdict.model_validate_json(run.verdict) if run.verdict else None
    kind, culprit = ("", "") if verdict is None else (verdict.kind.value, verdict.culprit.value)
    metrics.RESULTS.labels(run.state.value, kind, culprit).inc()
    logger.info(
        "fold stored: %s",
        run.state.value,
        extra={
            "action": "fold_stored",
            "run_id": run.run_id,
            "submission_fold_id": run.submission_fold_id,
            "submission_id": run.submission_id,
            "dataset": run.dataset if run.version is None else f"{run.dataset}@{run.version}",
            "worker": run.worker,
            "attempt": run.attempts[-1].id if run.attempts else None,
            "state": run.state.value,
            "kind": kind or None,
            "culprit": culprit or None,
        },
    )
