"""Which messages go by which exchange and routing key, and who reads which queue."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.topology import (
    COLLECTOR_QUEUE,
    CONTROL,
    CONTROL_STREAM,
    DATA_QUEUE,
    DEAD,
    DEAD_LETTERS_QUEUE,
    EVENTS,
    KEY_ACKNOWLEDGE,
    KEY_CANCEL,
    KEY_DATA,
    KEY_HEARTBEAT,
    KEY_NONCE,
    KEY_REQUEST,
    KEY_UPLOAD,
    RESULTS,
    WAITING,
    WAITING_TTL_MS,
    WORK,
    folds_key,
    folds_queue,
    waiting_queue,
)

POOL = "{pool}"
"""Stands for a pool's name."""

REQUESTS = {
    "ResultsRequest": "ResultsReply",
    "PartRequest": "PartReply",
    "DatasetsRequest": "DatasetsReply",
    "CrossValidateRequest": "CrossValidateReply",
    "FoldsRequest": "FoldsReply",
    "StatusRequest": "StatusReply",
    "AcknowledgeMessage": "Acknowledged",
    "CancelMessage": "Acknowledged",
}
"""Message -> its reply, besides ErrorReply."""

QUESTIONS = tuple(name for name in REQUESTS if name.endswith("Request"))
FOLD_EVENTS = (
    *("FoldStarted", "FoldTrained", "FoldValidated", "FoldPart"),
    *("FoldTested", "FoldFailed", "FoldReturned"),
)
BLOB = ("BlobChunk", "BlobTrailer")


@dataclass(frozen=True)
class Route:
    """An exchange and a kind of routing key."""

    id: str
    exchange: str
    key: str
    messages: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class Read:
    """What is in a queue, and who reads it."""

    id: str
    says: str
    messages: tuple[str, ...]


ROUTES = (
    Route("publishData", WORK, KEY_DATA, ("DataMessage",), "Data sets to be split."),
    Route(
        "publishFold",
        WORK,
        folds_key(POOL),
        ("FoldMessage",),
        "Folds for a pool of workers. `priority` H overtakes every waiting L: set the AMQP "
        "property, too (L is 1, H is 5).",
    ),
    Route("acknowledge", WORK, KEY_ACKNOWLEDGE, ("AcknowledgeMessage",), "Results have arrived."),
    Route("cancel", WORK, KEY_CANCEL, ("CancelMessage",), "Folds to be stopped."),
    Route("announceUpload", WORK, KEY_UPLOAD, ("UploadMessage",), "Blobs about to be written."),
    Route(
        "ask",
        WORK,
        KEY_REQUEST,
        QUESTIONS,
        "Questions to the collector, which has one queue: whoever publishes and then asks sees "
        "what he has published.",
    ),
    Route(
        "foldEvents",
        EVENTS,
        "fold.{submission_fold_id}",
        FOLD_EVENTS,
        "What workers say of a fold. Not fenced: a killed worker and its successor may both "
        "speak. What counts is the FoldResult.",
    ),
    Route("dataEvents", EVENTS, "data.{name}", ("DataReady", "DataFailed"), "Data sets split."),
    Route(
        "announcePart", EVENTS, KEY_UPLOAD, ("UploadMessage",), "A prepare worker will write parts."
    ),
    Route(
        "heartbeats",
        EVENTS,
        KEY_HEARTBEAT,
        ("WorkerHeartbeat",),
        "Every worker, every few seconds; transient.",
    ),
    Route("nonces", EVENTS, KEY_NONCE, ("ControlNonce",), "Workers that read the control stream."),
    Route(
        "foldResults",
        RESULTS,
        "fold.{dataset}.{submission_fold_id}",
        ("FoldResult",),
        "One small message for each verdict, once it is stored. Predictions are asked for.",
    ),
    Route(
        "dataResults",
        RESULTS,
        "data.{name}",
        ("DatasetResult",),
        "One message for each data set that is ready, or has failed.",
    ),
    Route(
        "controlData",
        CONTROL,
        "dataset",
        ("DatasetAnnounced", "DatasetWithdrawn"),
        "Which data sets there are.",
    ),
    Route("controlRuns", CONTROL, "run", ("RunCancelled",), "Which runs are not wanted."),
    Route(
        "waitingFolds",
        WAITING,
        folds_key(POOL),
        ("FoldMessage",),
        f"Folds whose data set is not ready: back in their pool's queue after "
        f"{WAITING_TTL_MS // 1000} s.",
    ),
    Route(
        "deadLetters",
        DEAD,
        "{key}",
        ("DataMessage", "FoldMessage", "AcknowledgeMessage", "CancelMessage", "UploadMessage"),
        "Messages that could not be read or done, as they came, with their own routing key and "
        "the reason in a header. Their bodies may be anything.",
    ),
)

QUEUES = {
    DATA_QUEUE: Read("dataQueue", "Read by workers of role prepare.", ("DataMessage",)),
    folds_queue(POOL): Read(
        "foldsQueue", "Read by the pool's workers of role folds.", ("FoldMessage",)
    ),
    waiting_queue(POOL): Read(
        "waitingQueue", "Read by nobody: RabbitMQ sends back what expires.", ("FoldMessage",)
    ),
    COLLECTOR_QUEUE: Read(
        "collectorQueue",
        "Read by the collector; a second one is a hot standby.",
        (*ROUTES[-1].messages, *QUESTIONS, *FOLD_EVENTS, "DataReady", "DataFailed"),
    ),
    DEAD_LETTERS_QUEUE: Read(
        "deadLettersQueue", "Read by people: `datarun dead-letters`.", ROUTES[-1].messages
    ),
    CONTROL_STREAM: Read(
        "controlStream",
        "Read from its beginning by every worker that starts.",
        ("DatasetAnnounced", "DatasetWithdrawn", "RunCancelled", "ControlNonce"),
    ),
}
"""By the queue's name."""
