"""A submission that writes to its worker's socket itself can harm nobody's verdict but its own."""

from __future__ import annotations

import json
import textwrap

import pytest

from schemas.states import Culprit, FailureKind, FoldState
from tests.support.folds import Dataset, Folds
from tests.support.submissions import DUMMY

SAYS = """
import json, os, struct, time

def say(kind, payload=b""):
    os.write(3, struct.pack(">BQ", kind, len(payload)) + payload)

class Classifier:
    def fit(self, X, y):
{what}
        time.sleep(60)
"""


def saying(*statements: str) -> str:
    return SAYS.format(what=textwrap.indent("\n".join(statements), 8 * " "))


@pytest.mark.parametrize("kind", ["cancelled", "rejected", "worker_lost", "timeout", "memory"])
def test_a_fold_cannot_say_what_only_others_know(folds: Folds, iris: Dataset, kind: str) -> None:
    report = {"kind": kind, "culprit": "publisher", "message": "not me", "traceback": ""}

    outcome = folds.run(iris, saying(f"say(6, {json.dumps(report).encode()!r})"))

    assert outcome.state is FoldState.ERROR
    assert outcome.verdict is not None
    assert outcome.verdict.kind is FailureKind.BAD_OUTPUT
    assert outcome.verdict.culprit is Culprit.SUBMISSION


@pytest.mark.parametrize("culprit", ["publisher", "organiser", "infrastructure"])
def test_a_fold_cannot_blame_others(folds: Folds, iris: Dataset, culprit: str) -> None:
    report = {"kind": "data", "culprit": culprit, "message": "not me", "traceback": ""}

    outcome = folds.run(iris, saying(f"say(6, {json.dumps(report).encode()!r})"))

    assert outcome.verdict is not None
    assert outcome.verdict.culprit is Culprit.SUBMISSION


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'shape': (75, 3",
        "(" * 100,
        "-" * 110,
        "-" * 9_000,
        "{'descr': '<f8', 'shape': (75, -3)}",
    ],
)
def test_predictions_with_a_header_that_is_no_python_are_the_submissions_fault(
    folds: Folds, iris: Dataset, header: str
) -> None:
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()

    outcome = folds.run(iris, saying("say(3)", f"say(4, {npy!r})"))

    assert outcome.verdict is not None
    assert outcome.verdict.kind is FailureKind.BAD_OUTPUT
    assert outcome.verdict.culprit is Culprit.SUBMISSION
    assert folds.run(iris, DUMMY).state is FoldState.TESTED


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
def test_a_stdout_of_the_submissions_own_that_cannot_be_flushed_fails_no_fold(
    folds: Folds, iris: Dataset, error: str
) -> None:
    replaced = f"""
    import sys

    class Silence:
        def write(self, text): pass
        def flush(self): raise {error}

    sys.stdout = Silence()
    """
    outcome = folds.run(iris, textwrap.dedent(replaced) + DUMMY)

    assert outcome.state is FoldState.TESTED
