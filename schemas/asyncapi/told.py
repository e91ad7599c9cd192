"""Examples of what datarun's services send; a test reads all of them with the models."""

from __future__ import annotations

from typing import Any

from schemas.asyncapi.example import Example, Examples

_RUN = "fold-1002-1"
_AT = "2026-11-21T12:00:03.250000Z"
_VERSION = "0123456789abcdef"
_REFERENCE = f"flowers@{_VERSION}"
_WORKER = "folds-lab1-4711"
_EVENT = {
    "run_id": _RUN,
    "attempt_id": "a1b2c3d4",
    "submission_fold_id": 1002,
    "worker": _WORKER,
    "at": _AT,
}
_TRAINED = {
    "train_time": 0.8,
    "train_cpu_time": 0.7,
    "train_memory": 10240.0,
    "memory_source": "cgroup",
}
_MEASURED = {
    "train_time": 0.8,
    "validation_time": 0.02,
    "test_time": 0.01,
    "train_cpu_time": 0.7,
    "test_cpu_time": 0.01,
    "train_memory": 10240.0,
    "test_memory": 10300.0,
    "memory_source": "cgroup",
}
_PREDICTIONS = [[0.9, 0.1], [0.2, 0.8]]
_PACKED = {
    "dtype": "<f8",
    "shape": [2, 2],
    "encoding": "zlib+base64",
    "data": "eNo7ewYE3tjPmgkCO6H0SSj90h4AWjgT4g==",
}
_CLASSES = ["setosa", "virginica"]
_VERDICT = {
    "phase": "train",
    "kind": "exception",
    "culprit": "submission",
    "message": "ValueError: no such species",
    "traceback": 'classifier.py, line 6, in fit\n    raise ValueError("no such species")',
}
_MANIFEST: dict[str, Any] = {
    "name": "flowers",
    "target_column": "species",
    "workflow_elements": "classifier",
    "split": {"held_out_test": 0.25, "random_state": 42},
    "n_train": 18,
    "n_test": 6,
    "columns": ["length", "width"],
    "classes": _CLASSES,
    "parts": [
        {
            "name": name,
            "format": "npy",
            "visibility": visibility,
            "size": size,
            "sha256": digit * 64,
            "blob": f"5f1d-{name}",
        }
        for name, visibility, size, digit in (
            ("X_train", "public", 416, "1"),
            ("y_train", "public", 776, "2"),
            ("X_test", "public", 224, "3"),
            ("y_test", "secret", 344, "4"),
        )
    ],
}
_RESULT: dict[str, Any] = {
    "run_id": _RUN,
    "generation": 1,
    "submission_fold_id": 1002,
    "submission_id": 101,
    "dataset": "flowers",
    "version": _VERSION,
    "state": "TESTED",
    "verdict": None,
    "valid_scores": {"accuracy": 1.0},
    "test_scores": {"accuracy": 0.8333333333333334},
    "measurements": _MEASURED,
    "stored_at": _AT,
}
_DATASET = {
    "message_id": "flowers-uploaded-1",
    "name": "flowers",
    "state": "READY",
    "version": _VERSION,
    "n_train": 18,
    "n_test": 6,
    "classes": _CLASSES,
    "stored_at": _AT,
}
_RECORD = {
    **_RESULT,
    "new": True,
    "log_messages": "",
    "submission_name": "nearest mean",
    "classes": _CLASSES,
    "full_train_predictions": _PREDICTIONS,
    "test_predictions": _PACKED,
}
_DATASET_RECORD = {
    **_DATASET,
    "target_column": "species",
    "workflow_elements": "classifier",
    "log_messages": "",
    "manifest": _MANIFEST,
}
_HEARTBEAT = {
    "worker": _WORKER,
    "role": "folds",
    "pool": "default",
    "host": "lab1",
    "pid": 4711,
    "slots": 2,
    "running": [{"run_id": _RUN, "submission_fold_id": 1002, "state": "TRAINED", "since": _AT}],
    "at": _AT,
}
_FOLD = {
    "submission_fold_id": 1002,
    "submission_id": 101,
    "submission_name": "nearest mean",
    "dataset": _REFERENCE,
    "state": "TESTED",
    "new": True,
    "priority": "H",
    "pool": "default",
    "run_id": _RUN,
    "generation": 1,
    "attempts": 1,
    "worker": _WORKER,
    "published_at": _AT,
}


def _one(summary: str, payload: Any, **properties: Any) -> tuple[Example, ...]:
    return (Example("one", summary, payload, properties),)


TOLD: Examples = {
    # --- workers' events
    "FoldStarted": _one("A worker has begun", {**_EVENT, "dataset": _REFERENCE}),
    "FoldTrained": _one("`fit` returned", {**_EVENT, "measurements": _TRAINED}),
    "FoldValidated": _one(
        "Training rows are predicted",
        {**_EVENT, "measurements": {**_TRAINED, "validation_time": 0.02}},
    ),
    "FoldPart": _one(
        "The second of three pieces of large predictions",
        {**_EVENT, "array": "test_predictions", "index": 1, "count": 3, "data": "vDQbOQsE7B1m"},
    ),
    "FoldTested": _one(
        "It succeeded",
        {
            **_EVENT,
            "dataset": _REFERENCE,
            "full_train_predictions": _PACKED,
            "test_predictions": _PACKED,
            "measurements": _MEASURED,
            "output": {"stdout": "fitted\n", "stderr": ""},
        },
    ),
    "FoldFailed": _one("`fit` raised", {**_EVENT, "dataset": _REFERENCE, "verdict": _VERDICT}),
    "FoldReturned": _one(
        "Given back unfinished", {**_EVENT, "reason": "the worker is shutting down"}
    ),
    "DataReady": _one(
        "The table is split",
        {
            "message_id": "flowers-uploaded-1",
            "worker": "prepare-lab1-4710",
            "at": _AT,
            "manifest": _MANIFEST,
        },
    ),
    "DataFailed": _one(
        "There is no such column",
        {
            "message_id": "flowers-uploaded-1",
            "name": "flowers",
            "worker": "prepare-lab1-4710",
            "at": _AT,
            "verdict": {
                "phase": "data",
                "kind": "data",
                "culprit": "organiser",
                "message": "data: there is no column 'species'",
            },
        },
    ),
    "WorkerHeartbeat": _one("A worker with one of its two slots busy", _HEARTBEAT),
    # --- the collector's results
    "FoldResult": (
        Example("tested", "It succeeded: the scores", _RESULT),
        Example(
            "failed",
            "It failed: the verdict",
            {
                **_RESULT,
                "state": "ERROR",
                "verdict": _VERDICT,
                "valid_scores": {},
                "test_scores": {},
                "measurements": {},
            },
        ),
    ),
    "DatasetResult": _one("It is ready", _DATASET),
    # --- the control stream
    "DatasetAnnounced": _one(
        "A new version", {"name": "flowers", "manifest": _MANIFEST, "at": _AT}
    ),
    "DatasetWithdrawn": _one("An old one is deleted", {"name": "flowers", "version": _VERSION}),
    "RunCancelled": _one(
        "Stop it",
        {
            "run_id": "fold-1003-1",
            "submission_fold_id": 1003,
            "reason": "somebody asked for this fold to be stopped",
            "at": _AT,
        },
    ),
    "ControlNonce": _one("A worker has read so far", {"nonce": "6f1c0e"}),
    # --- replies
    "Acknowledged": _one("One result was new", {"count": 1}, correlation_id="a1"),
    "ErrorReply": _one(
        "Refused, and why",
        {"message": "run fold-1002-1 has no part 7 of test_predictions"},
        correlation_id="q3",
    ),
    "ResultsReply": _one(
        "One page, the last", {"results": [_RECORD], "cursor": None}, correlation_id="q1"
    ),
    "PartReply": _one("Base64 text", {"data": _PACKED["data"]}, correlation_id="q3"),
    "DatasetsReply": _one("One data set", {"datasets": [_DATASET_RECORD]}, correlation_id="q4"),
    "CrossValidateReply": _one(
        "Two folds of nine rows each",
        {
            "submission_id": 103,
            "dataset": _REFERENCE,
            "n_train": 18,
            "folds": [
                {"submission_fold_id": 1004, "test_is": [0, 2, 4, 6, 8, 10, 12, 14, 16]},
                {"submission_fold_id": 1005, "test_is": [1, 3, 5, 7, 9, 11, 13, 15, 17]},
            ],
        },
        correlation_id="q5",
    ),
    "FoldsReply": _one("One page", {"folds": [_FOLD], "more": False}, correlation_id="q6"),
    "StatusReply": _one(
        "One worker, and a fold that runs",
        {
            "folds": {"TRAINED": 1, "TESTED": 2},
            "new": 1,
            "datasets": {"READY": 1},
            "workers": [_HEARTBEAT],
            "outbox": 0,
            "ignored_events": 0,
            "database": "sqlite",
        },
        correlation_id="q7",
    ),
}
