"""What the collector counts. Labels have few values: never an id, never a word of a submission."""

from __future__ import annotations

from broker.metrics import SECONDS, Counter, Gauge, Histogram
from schemas.wire import MESSAGE_TYPES

STORED = Counter("datarun_messages_stored", "Messages that were committed, by type.", ["type"])
BATCH_MESSAGES = Histogram(
    "datarun_batch_messages",
    "Messages in a transaction.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200),
)
BATCH_SECONDS = Histogram(
    "datarun_batch_seconds",
    "From reading a batch of messages until it is committed and acknowledged.",
    buckets=SECONDS,
)
RESULTS = Counter(
    "datarun_results",
    "Verdicts that were stored. Without kind and culprit: the fold succeeded.",
    ["state", "kind", "culprit"],
)
IGNORED = Counter(
    "datarun_messages_ignored",
    "Messages that changed nothing: late (duplicates, of superseded runs), malformed, refused by "
    "the database, dead_letter.",
    ["reason"],
)
DEAD_LETTERS = Counter("datarun_dead_letters", "Dead letters that were seen.")
DATABASE_FAILURES = Counter(
    "datarun_database_failures", "Tries that failed since the database was away."
)
OUTBOX_MESSAGES = Gauge("datarun_outbox_messages", "Committed messages that wait to be published.")
OUTBOX_AGE = Gauge(
    "datarun_outbox_oldest_age_seconds",
    "Age of the oldest message that can be published, which one whose files are uploaded first "
    "cannot; 0 without one.",
)
WORKERS = Gauge("datarun_workers", "Workers whose heartbeats are heard.", ["role"])

_REASONS = {"malformed": "malformed", "dead": "dead_letter", "refused": "refused"}


def known_type(kind: str | None) -> str:
    """A message's type as a label; `other` for what is none of ours."""
    return kind if kind is not None and kind in MESSAGE_TYPES else "other"


def ignored_reason(kind: str) -> str:
    """The kind of a row of the audit as a label: `malformed ...`, `dead letter ...`, or a type."""
    return _REASONS.get(kind.split(" ", 1)[0], "late")
