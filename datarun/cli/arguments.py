"""Errors name the arguments of Python's `Client`; on the command line they have other names."""

from __future__ import annotations

_AS_TYPED = {
    "name": "NAME",
    "files": "FILES",
    "target_column": "--target",
    "workflow_elements": "--workflow",
    "held_out_test": "--held-out-test",
    "random_state": "--random-state",
    "split": "--custom",
    "scoring": "--scoring",
    "dataset": "--dataset",
    "cv": "--cv",
    "pool": "--pool",
    "limits: wall_seconds": "--wall-seconds",
    "limits: memory_bytes": "--memory-bytes",
    "submission_id": "--submission",
    "submission_fold_id": "ID",
}


def as_typed(sentence: str) -> str:
    """`target_column: it is needed` -> `--target: it is needed`; others as they are."""
    for name, typed in _AS_TYPED.items():
        if sentence.startswith(f"{name}:"):
            return typed + sentence.removeprefix(name)
    return sentence
