"""What goes wrong in a fold ends in a verdict that says what, where and whose fault it was."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from schemas.states import Culprit, FailureKind, FoldState, Phase
from schemas.verdicts import Verdict
from tests.integration.test_execution_workflows import RISES, SPECIFIC
from tests.support.folds import Dataset, Folds, make_custom, make_dataset, make_iris
from tests.support.submissions import DUMMY


def failed(folds: Folds, dataset: Dataset, files: object, **options: object) -> Verdict:
    outcome = folds.run(dataset, files, **options)  # type: ignore[arg-type]
    assert outcome.state is FoldState.ERROR
    assert outcome.verdict is not None
    assert (outcome.full_train_predictions is not None) == (outcome.verdict.phase is Phase.TEST)
    assert outcome.test_predictions is None
    return outcome.verdict


def classifier(fit: str = "pass", predict: str = "return np.ones((len(X), 3)) / 3") -> str:
    return f"""
import os, signal, sys, time
import numpy as np

class Classifier:
    def fit(self, X, y):
        {fit}

    def predict_proba(self, X):
        {predict}
"""


IN_TEST = "self.calls = getattr(self, 'calls', 0) + 1; assert self.calls < 2, 'second call'; "


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"model.py": "pass"},
            "the submission has no classifier.py; its workflow needs classifier.py",
        ),
        (
            {"classifier.py": "class Clasifier: pass"},
            "classifier.py has no class Classifier; its workflow needs one",
        ),
        (
            {"classifier.py": "x = 1\ndef fit(:\n    pass"},
            "SyntaxError: invalid syntax (classifier.py, line 2) in train",
        ),
        (
            {"classifier.py": "import sklearm"},
            "ModuleNotFoundError: No module named 'sklearm' in train",
        ),
        (
            {"classifier.py": "class Classifier:\n    def __init__(self, depth): pass"},
            "TypeError: Classifier.__init__() missing 1 required positional argument: 'depth' "
            "in train",
        ),
        (
            {"classifier.py": "class Classifier:\n    def fit(self, X, y): pass"},
            "AttributeError: 'Classifier' object has no attribute 'predict_proba' in validation",
        ),
    ],
    ids=["no file", "no class", "syntax", "missing module", "constructor", "no method"],
)
def test_submission_that_is_no_classifier(
    folds: Folds, iris: Dataset, files: dict[str, str], message: str
) -> None:
    verdict = failed(folds, iris, files)

    assert verdict.message == message
    assert verdict.kind is FailureKind.EXCEPTION
    assert verdict.culprit is Culprit.SUBMISSION


@pytest.mark.parametrize(
    ("submission", "phase"),
    [
        (classifier(fit="raise ValueError('wrong')"), Phase.TRAIN),
        (classifier(predict="raise ValueError('wrong')"), Phase.VALIDATION),
        (
            classifier(
                predict="if len(X) == 74: raise ValueError('wrong')\n        "
                "return np.ones((len(X), 3))"
            ),
            Phase.TEST,
        ),
    ],
    ids=str,
)
def test_exception_names_its_phase_and_shows_the_users_frames_only(
    folds: Folds, tmp_path: Path, submission: str, phase: Phase
) -> None:
    # Given 75 training and 74 test rows
    x = np.random.default_rng(0).normal(size=(149, 2))
    dataset = make_dataset(
        tmp_path / "data", (x[:75], x[75:]), np.arange(75) % 3, classes=np.arange(3)
    )

    # When the submission raises
    verdict = failed(folds, dataset, submission)

    # Then its verdict says where
    assert (verdict.kind, verdict.culprit, verdict.phase) == (
        FailureKind.EXCEPTION,
        Culprit.SUBMISSION,
        phase,
    )
    assert verdict.message == f"ValueError: wrong in {phase}"
    lines = verdict.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line.split(",")[0] for line in lines if line.startswith("  File")] == [
        '  File "classifier.py"'
    ]
    assert lines[-1] == "ValueError: wrong"


def test_measurements_of_a_failed_fold_go_as_far_as_it_came(folds: Folds, iris: Dataset) -> None:
    # Given a submission that fails in predicting
    # When it has run
    outcome = folds.run(iris, classifier(predict="time.sleep(0.05); raise ValueError"))

    # Then its training and its validation are measured, and its test is not
    assert outcome.measurements.train_time is not None
    assert outcome.measurements.validation_time is not None
    assert outcome.measurements.validation_time >= 0.05
    assert outcome.measurements.test_time is None


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        ("return np.ones((len(X) - 1, 3))", "predictions have 74 rows, expected 75"),
        (
            "return np.ones((len(X), 2))",
            "predictions have 2 columns, expected 3, one per class",
        ),
        ("return np.ones(len(X))", "predictions have shape (75,), expected (75, 3)"),
        (
            "return np.ones((len(X), 3, 1))",
            "predictions have shape (75, 3, 1), expected (75, 3)",
        ),
        (
            "p = np.ones((len(X), 3)); p[7, 1] = np.nan; return p",
            "predictions are not finite: row 7 is NaN",
        ),
        (
            "p = np.ones((len(X), 3)); p[7, 1] = np.inf; return p",
            "predictions are not finite: row 7 is infinite",
        ),
        ("return np.full((len(X), 3), 'a')", "predictions are of type <U1, expected numbers"),
        (
            "return np.full((len(X), 3), 1j)",
            "predictions are of type complex128, expected numbers",
        ),
        (
            "return np.full((len(X), 3), None)",
            "predictions are of type object, expected numbers",
        ),
        ("return None", "predictions are not an array, but an object of type NoneType"),
    ],
)
def test_predictions_that_cannot_be_taken(
    folds: Folds, iris: Dataset, predict: str, message: str
) -> None:
    verdict = failed(folds, iris, classifier(predict=predict))

    assert verdict.message == f"bad_output: {message}"
    assert (verdict.kind, verdict.culprit) == (FailureKind.BAD_OUTPUT, Culprit.SUBMISSION)
    assert verdict.phase is Phase.VALIDATION


@pytest.mark.parametrize(
    "predict",
    [
        "return [[0, 1, 0]] * len(X)",
        "return np.asmatrix(np.ones((len(X), 3), dtype=np.float32))",
        "import pandas; return pandas.DataFrame(np.ones((len(X), 3)))",
        "return np.asfortranarray(np.ones((len(X), 3)))",
        "return np.ones((len(X), 3), dtype='>f8')",
        "return np.ones((len(X), 3), dtype=np.longdouble)",
        "return np.ones((len(X), 3), dtype=bool)",
    ],
)
def test_predictions_of_any_kind_of_array_are_taken_as_floats(
    folds: Folds, iris: Dataset, predict: str
) -> None:
    outcome = folds.run(iris, classifier(predict=predict))

    assert outcome.verdict is None
    assert outcome.test_predictions is not None
    assert outcome.test_predictions.dtype == np.float64


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed: SIGSEGV in train"),
        ("os.abort()", "crashed: SIGABRT in train"),
        (
            "os._exit(3)",
            "crashed: the process left with exit code 3 in train without a result",
        ),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "crashed: SIGKILL in train; the machine may be out of memory",
        ),
        ("os.close(3); time.sleep(60)", "crashed: the process closed the connection"),
    ],
)
def test_process_that_dies(folds: Folds, iris: Dataset, statement: str, message: str) -> None:
    verdict = failed(folds, iris, classifier(fit=statement))

    assert verdict.message.startswith(message)
    assert (verdict.kind, verdict.culprit) == (FailureKind.CRASHED, Culprit.SUBMISSION)


def test_segmentation_fault_shows_where_it_was(folds: Folds, iris: Dataset) -> None:
    outcome = folds.run(iris, classifier(fit="import ctypes; ctypes.string_at(0)"))

    assert outcome.verdict is not None
    assert outcome.verdict.message == "crashed: SIGSEGV in train"
    assert 'classifier.py", line 7 in fit' in outcome.output.stderr


def test_exit_is_an_exception_as_any_other(folds: Folds, iris: Dataset) -> None:
    verdict = failed(folds, iris, classifier(fit="sys.exit(3)"))

    assert verdict.message == "SystemExit: 3 in train"


def test_wall_limit_names_itself_and_the_phase(folds: Folds, iris: Dataset) -> None:
    # Given a submission that sleeps
    # When it may run for half a second
    outcome = folds.run(iris, classifier(fit="time.sleep(60)"), wall=0.5)

    # Then it is stopped then
    assert outcome.verdict is not None
    assert outcome.verdict.message == "timeout: 0.5 s wall in train"
    assert outcome.verdict.kind is FailureKind.TIMEOUT
    assert outcome.measurements.train_time == pytest.approx(0.5, abs=0.4)


def test_cpu_limit_counts_children(folds: Folds, iris: Dataset) -> None:
    # Given a submission whose child computes, while it waits
    computes = "import subprocess; subprocess.run([sys.executable, '-c', 'while True: pass'])"

    # When its tree may use half a second of CPU
    outcome = folds.run(iris, classifier(fit=computes), cpu=0.5)

    # Then it is stopped then
    assert outcome.verdict is not None
    assert outcome.verdict.message == "timeout: 0.5 s CPU in train"
    assert outcome.measurements.train_cpu_time is not None
    assert 0.4 < outcome.measurements.train_cpu_time < 2


def test_memory_limit_names_itself(folds: Folds, iris: Dataset) -> None:
    # Given a submission that takes memory until it is stopped
    takes = "a = []\n        while True: a.append(np.ones(1 << 17)); time.sleep(0.0002)"

    # When it may have 256 MiB
    verdict = failed(folds, iris, classifier(fit=takes), memory=256 << 20)

    # Then the verdict says so
    assert verdict.kind is FailureKind.MEMORY
    used, rest = verdict.message.removeprefix("memory: ").split(" ", 1)
    assert 256 <= float(used) < 400
    assert rest == "of 256.0 MiB in train"


def test_memory_limit_counts_children(folds: Folds, iris: Dataset) -> None:
    takes = "import subprocess; subprocess.run([sys.executable, '-c', \
'import time; a = bytearray(300 << 20); a[::4096] = b\"x\" * (300 << 8); time.sleep(60)'])"

    verdict = failed(folds, iris, classifier(fit=takes), memory=256 << 20)

    assert verdict.kind is FailureKind.MEMORY, verdict


def test_process_limit_names_itself(folds: Folds, iris: Dataset) -> None:
    many = "import threading\n        for _ in range(40): threading.Thread(target=time.sleep, \
args=(60,)).start()\n        time.sleep(60)"

    verdict = failed(folds, iris, classifier(fit=many), processes=20)

    assert verdict.kind is FailureKind.CRASHED
    assert re.fullmatch(
        r"crashed: [2-4]\d processes and threads, 20 allowed, in train", verdict.message
    )


def test_memory_error_below_the_limit_is_an_exception(folds: Folds, iris: Dataset) -> None:
    verdict = failed(folds, iris, classifier(fit="np.ones(1 << 60)"))

    assert verdict.kind is FailureKind.EXCEPTION
    assert "in train" in verdict.message


def test_training_row_out_of_range_is_the_publishers_fault(folds: Folds, iris: Dataset) -> None:
    verdict = failed(folds, iris, DUMMY, train_is=[0, 1, 75])

    assert verdict.message == "train_is: index 75 is out of range: data has 75 training rows"
    assert (verdict.kind, verdict.culprit) == (FailureKind.REJECTED, Culprit.PUBLISHER)
    assert verdict.phase is Phase.DATA


def test_part_that_is_gone_is_our_fault(folds: Folds, tmp_path: Path) -> None:
    dataset = make_iris(tmp_path / "iris")
    (dataset.folder / "X_test.npy").unlink()

    verdict = failed(folds, dataset, DUMMY)

    assert verdict.culprit is Culprit.INFRASTRUCTURE
    assert "X_test.npy" in verdict.message


def test_calibrator_needs_two_rows_of_each_class(folds: Folds, tmp_path: Path) -> None:
    dataset = make_iris(tmp_path / "iris", "classifier, calibrator")
    files = {"classifier.py": DUMMY, "calibrator.py": DUMMY.replace("Classifier:", "Calibrator:")}

    verdict = failed(folds, dataset, files, train_is=np.r_[0:20, 25, 50:60])

    assert verdict.culprit is Culprit.PUBLISHER
    assert verdict.message.startswith("the rows of train_is cannot be split for a calibrator")


@pytest.mark.parametrize(
    ("old", "new", "message", "phase", "kind"),
    [
        (
            "return classifier",
            "raise KeyError('mine')",
            "KeyError: 'mine' in train",
            Phase.TRAIN,
            FailureKind.EXCEPTION,
        ),
        (
            "import numpy as np",
            "import numpi",
            "ModuleNotFoundError: No module named 'numpi' in data",
            Phase.DATA,
            FailureKind.EXCEPTION,
        ),
        (
            "def test_submission",
            "def other",
            "specific.py lacks the function test_submission",
            Phase.VALIDATION,
            FailureKind.EXCEPTION,
        ),
    ],
)
def test_exception_in_the_organisers_code_is_his(
    folds: Folds, tmp_path: Path, old: str, new: str, message: str, phase: Phase, kind: FailureKind
) -> None:
    dataset = make_custom(tmp_path / "series", SPECIFIC.replace(old, new))

    verdict = failed(folds, dataset, RISES)

    assert verdict.culprit is Culprit.ORGANISER
    assert (verdict.message, verdict.phase, verdict.kind) == (message, phase, kind)


def test_exception_beneath_the_submission_is_its_own_in_a_custom_workflow(
    folds: Folds, tmp_path: Path
) -> None:
    dataset = make_custom(tmp_path / "series", SPECIFIC)

    verdict = failed(folds, dataset, RISES.replace("assert all(", "raise ValueError('all')  # "))

    assert verdict.culprit is Culprit.SUBMISSION
    assert 'File "specific.py"' in verdict.traceback
    assert 'File "classifier.py"' in verdict.traceback


def test_standard_streams_are_kept_head_and_tail(folds: Folds, iris: Dataset) -> None:
    # Given a submission that floods both streams, and a marker that databoard looks for
    floods = (
        "print('first line')\n"
        "        for i in range(300_000): print('a line of the flood', i)\n"
        "        sys.stderr.write('x' * 5_000_000 + 'end')\n"
        "        os.write(1, b'\\xff\\xfe last')"
    )

    # When it has run
    outcome = folds.run(iris, classifier(fit=floods))

    # Then it has its result, and head and tail of each stream are there
    assert outcome.state is FoldState.TESTED
    assert outcome.output.stdout.startswith("first line\na line of the flood 0\n")
    assert outcome.output.stdout.endswith("299999\n\ufffd\ufffd last")
    assert "left out" in outcome.output.stdout
    assert len(outcome.output.stdout) < 20_000
    assert outcome.output.stderr.endswith("xend")
    assert len(outcome.output.stderr) < 20_000


def test_endless_flood_ends_at_the_wall_limit(folds: Folds, iris: Dataset) -> None:
    verdict = failed(folds, iris, classifier(fit="while True: print('flood' * 1000)"), wall=1)

    assert verdict.message == "timeout: 1.0 s wall in train"
