"""Examples of what programs send; together they tell one story, and a test publishes all of them.

A data set of flowers, folds on it, questions about them.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from schemas.asyncapi.example import Example, Examples
from schemas.asyncapi.flowers import (
    CLASSIFIER,
    CLASSIFIER_PACKED,
    FLOWERS,
    ORGANISER,
    TEST_IS_PACKED,
    TRAIN_IS_PACKED,
    UPLOAD,
)

_DESCRIBED: dict[str, Any] = {"target_column": "species", "workflow_elements": "classifier"}
_HOLD_OUT = {"held_out_test": 0.25, "random_state": 42}
_ROWS: dict[str, Any] = {
    "train_is": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    "test_is": [12, 13, 14, 15, 16, 17],
}
_FILES = {"classifier.py": CLASSIFIER}


def _from(program: str, type_: str, message_id: str, **more: Any) -> dict[str, Any]:
    return {
        "content_type": "application/json",
        "delivery_mode": 2,
        "type": type_,
        "message_id": message_id,
        "app_id": program,
        **more,
    }


def _asking(type_: str, correlation_id: str) -> dict[str, Any]:
    return {
        "content_type": "application/json",
        "type": type_,
        "reply_to": "amq.rabbitmq.reply-to",
        "correlation_id": correlation_id,
    }


SENT: Examples = {
    "DataMessage": (
        Example(
            "typedByHand",
            "A small table, as a person types it: no properties, the file as text",
            {
                "name": "flowers",
                **_DESCRIBED,
                "files": {"flowers.csv": FLOWERS},
                "split": {"held_out_test": 0.25},
            },
        ),
        Example(
            "largeFile",
            "The same table, in a blob that was uploaded before, and with scorers named",
            {
                "name": "flowers_uploaded",
                **_DESCRIBED,
                "uploads": {
                    "flowers.csv": {
                        "size": len(FLOWERS),
                        "sha256": sha256(FLOWERS.encode()).hexdigest(),
                        "blob": UPLOAD,
                    }
                },
                "split": _HOLD_OUT,
                "scoring": ["accuracy", "f1_macro"],
            },
            _from("databoard", "datarun.data.v1", "flowers-uploaded-1"),
        ),
        Example(
            "ownSplit",
            "Data that are no table, split by the organiser's Python file",
            {
                "name": "words",
                "workflow_elements": "classifier",
                "files": {"words.py": ORGANISER, "words.txt": "ab AB cd CD ef EF gh GH AB ab\n"},
                "split": {"file": "words.py"},
            },
            _from("databoard", "datarun.data.v1", "words-1"),
        ),
    ),
    "FoldMessage": (
        Example(
            "typedByHand",
            "As a person types it: no properties, rows as lists, the file as text",
            {
                "submission_fold_id": 1001,
                "submission_id": 101,
                "dataset": "flowers",
                "files": _FILES,
                **_ROWS,
            },
        ),
        Example(
            "encoded",
            "As a program sends it: arrays and files packed, urgent, with limits and an id",
            {
                "submission_fold_id": 1002,
                "submission_id": 101,
                "submission_name": "nearest mean",
                "dataset": "flowers",
                "files": {
                    "classifier.py": {
                        "encoding": "zlib+base64",
                        "data": CLASSIFIER_PACKED,
                        "size": len(CLASSIFIER),
                    }
                },
                "train_is": {
                    "dtype": "<i8",
                    "shape": [12],
                    "encoding": "zlib+base64",
                    "data": TRAIN_IS_PACKED,
                },
                "test_is": {
                    "dtype": "<i8",
                    "shape": [6],
                    "encoding": "zlib+base64",
                    "data": TEST_IS_PACKED,
                },
                "priority": "H",
                "limits": {"wall_seconds": 60, "memory_bytes": 1073741824},
                "params": {"team": "botanists"},
            },
            _from("databoard", "datarun.fold.v1", "fold-1002-1", priority=5),
        ),
        Example(
            "again",
            "Fold 1002 once more: with `force`, the new run takes the place of the former one",
            {
                "submission_fold_id": 1002,
                "submission_id": 101,
                "dataset": "flowers",
                "files": _FILES,
                **_ROWS,
                "force": True,
            },
            _from("databoard", "datarun.fold.v1", "fold-1002-2", priority=1),
        ),
        Example(
            "otherPool",
            "For the workers of another pool: published with routing key `folds.gpu`",
            {
                "submission_fold_id": 1003,
                "submission_id": 102,
                "dataset": "flowers",
                "files": _FILES,
                **_ROWS,
                "pool": "gpu",
            },
            _from("databoard", "datarun.fold.v1", "fold-1003-1", priority=1),
        ),
    ),
    "AcknowledgeMessage": (
        Example(
            "typedByHand",
            "By folds: the current run of each",
            {"submission_fold_ids": [1001]},
        ),
        Example(
            "byRun",
            "By runs, and answered: who asks knows that it is stored",
            {"run_ids": ["fold-1002-2"]},
            _asking("datarun.acknowledge.v1", "a1"),
        ),
    ),
    "CancelMessage": (
        Example("typedByHand", "Stop a fold, or never start it", {"submission_fold_ids": [1003]}),
    ),
    "UploadMessage": (
        Example(
            "beforeAFile",
            "A large file is about to be uploaded for the data message of that id",
            {"owner": "flowers-uploaded-1", "blobs": [["raw", UPLOAD]]},
            _from("databoard", "datarun.upload.v1", "upload-1"),
        ),
    ),
    "BlobChunk": (
        Example("onlyChunk", "The whole file: it is small", FLOWERS, {"datarun-chunk": 0}),
    ),
    "BlobTrailer": (
        Example(
            "afterOneChunk",
            "What stands before it",
            {
                "chunks": 1,
                "size": len(FLOWERS),
                "sha256": sha256(FLOWERS.encode()).hexdigest(),
            },
        ),
    ),
    "ResultsRequest": (
        Example(
            "ofFolds",
            "Results of these folds, with predictions",
            {"submission_fold_ids": [1001, 1002]},
            _asking("datarun.results-request.v1", "q1"),
        ),
        Example(
            "whatIsNew",
            "Every result that nobody has acknowledged, without predictions",
            {"with_predictions": False},
            _asking("datarun.results-request.v1", "q2"),
        ),
    ),
    "PartRequest": (
        Example(
            "firstPiece",
            "The first piece of an array that came as `parts`",
            {"run_id": "fold-1002-1", "array": "test_predictions", "index": 0},
            _asking("datarun.part-request.v1", "q3"),
        ),
    ),
    "DatasetsRequest": (
        Example(
            "oneDataSet",
            "Is it ready, and how many rows has it?",
            {"name": "flowers"},
            _asking("datarun.datasets-request.v1", "q4"),
        ),
    ),
    "CrossValidateRequest": (
        Example(
            "threeFolds",
            "Unused ids, and the rows of three folds",
            {"dataset": "flowers", "cv": 3, "random_state": 57},
            _asking("datarun.cross-validate-request.v1", "q5"),
        ),
    ),
    "FoldsRequest": (
        Example(
            "ofASubmission",
            "How the folds of submission 101 stand",
            {"submission_id": 101},
            _asking("datarun.folds-request.v1", "q6"),
        ),
    ),
    "StatusRequest": (
        Example(
            "howItStands",
            "Folds by state, workers, what waits",
            {},
            _asking("datarun.status-request.v1", "q7"),
        ),
    ),
}
