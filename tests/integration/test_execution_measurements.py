"""Times, CPU and memory are those of one fold alone, with everything that it started."""

from __future__ import annotations

import pytest

from consumer.jobs import FoldOutcome
from schemas.states import FoldState
from tests.support.folds import Dataset, Folds
from tests.support.submissions import DUMMY

MB = 1 << 20


def classifier(fit: str = "pass", predict: str = "pass") -> str:
    return f"""
import os, subprocess, sys, time
import numpy as np

class Classifier:
    def fit(self, X, y):
        {fit}

    def predict_proba(self, X):
        {predict}
        return np.ones((len(X), 3))
"""


def megabytes(outcome: FoldOutcome) -> tuple[float, float]:
    """Of training, and of the whole fold."""
    measured = outcome.measurements
    assert outcome.state is FoldState.TESTED, outcome
    assert measured.memory_source == "sampled"
    assert measured.train_memory is not None
    assert measured.test_memory is not None
    return measured.train_memory / 1024, measured.test_memory / 1024


def test_small_fold_after_a_big_one_is_small(folds: Folds, iris: Dataset) -> None:
    # Given a fold that keeps 300 MiB
    big = folds.run(iris, classifier(fit=f"self.kept = np.ones({300 * MB // 8})"))

    # When a trivial one follows in the same slot
    small = folds.run(iris, DUMMY)

    # Then each has its own
    assert megabytes(big)[0] == pytest.approx(307, abs=12)
    assert megabytes(small)[1] < 15


def test_memory_that_is_held_for_a_moment_is_seen(folds: Folds, iris: Dataset) -> None:
    # Given a fold that takes 300 MiB for as long as it takes to write to them
    moment = f"np.ones({300 * MB // 8}).sum()"

    # When it does so in training, or in testing only
    in_fit = folds.run(iris, classifier(fit=moment))
    in_predict = folds.run(iris, classifier(predict=moment))

    # Then it is seen there
    assert megabytes(in_fit)[0] == pytest.approx(307, abs=15)
    assert megabytes(in_predict)[0] < 15
    assert megabytes(in_predict)[1] == pytest.approx(307, abs=15)


def test_a_process_that_takes_the_name_of_a_measurement_is_measured_all_the_same(
    folds: Folds, iris: Dataset
) -> None:
    # Given a fold whose name reads like a line of /proc/<pid>/status
    fit = f"""
        import ctypes
        ctypes.CDLL(None).prctl(15, b"VmHWM: 0 kB", 0, 0, 0)
        self.kept = np.ones({300 * MB // 8})"""

    # When
    outcome = folds.run(iris, classifier(fit=fit))

    # Then
    assert megabytes(outcome)[0] == pytest.approx(307, abs=12)


@pytest.mark.parametrize(
    "holds",
    [
        "subprocess.run([sys.executable, '-c', 'import time; a = b\"x\" * 200_000_000; "
        "time.sleep(0.5)'])",
        "pid = os.fork()\n"
        "        if pid == 0: a = np.ones(25_000_000); time.sleep(0.5); os._exit(0)\n"
        "        os.waitpid(pid, 0)",
        "from multiprocessing.shared_memory import SharedMemory\n"
        "        memory = SharedMemory(create=True, size=200_000_000)\n"
        "        memory.buf[:] = bytes(200_000_000); memory.unlink(); time.sleep(0.5)",
    ],
    ids=["started", "forked", "shared"],
)
def test_memory_of_children_and_shared_memory_count(
    folds: Folds, iris: Dataset, holds: str
) -> None:
    outcome = folds.run(iris, classifier(fit=holds))

    assert 188 < megabytes(outcome)[0] < 420


def test_what_a_fold_shares_with_its_children_counts_once(folds: Folds, iris: Dataset) -> None:
    # Given a fold of 200 MB with four forked children that only read it
    shares = (
        "self.kept = np.ones(25_000_000)\n"
        "        pids = []\n"
        "        for _ in range(4):\n"
        "            pid = os.fork()\n"
        "            if pid == 0: time.sleep(0.5); os._exit(0)\n"
        "            pids.append(pid)\n"
        "        for pid in pids: os.waitpid(pid, 0)"
    )

    # When it has run, within 500 MB
    outcome = folds.run(iris, classifier(fit=shares), memory=500 * MB)

    # Then the 200 MB were counted once
    assert 188 < megabytes(outcome)[0] < 300


def test_cpu_time_counts_children_and_no_sleep(folds: Folds, iris: Dataset) -> None:
    # Given a fold that sleeps, and has children compute that it waits for, or not
    computes = (
        "busy = [sys.executable, 'busy.py']\n"
        "        subprocess.run([*busy, 'first'], check=True)\n"
        "        self.left = subprocess.Popen([*busy, 'second'])\n"
        "        time.sleep(0.7)\n"
        "        while not os.path.exists('second'): time.sleep(0.01)"
    )
    files = {
        "classifier.py": classifier(fit=computes),
        "busy.py": "import sys, time\n"
        "while time.process_time() < 0.2: pass\n"
        "open(sys.argv[1], 'w')",
    }

    # When it has run
    measured = folds.run(iris, files).measurements

    # Then CPU time is theirs, and wall time is ours
    assert measured.train_time is not None
    assert measured.train_cpu_time is not None
    assert measured.test_cpu_time is not None
    assert measured.train_time > 0.9
    assert 0.37 <= measured.train_cpu_time < 0.8
    assert measured.test_cpu_time < 0.15


def test_each_phase_has_its_own_time(folds: Folds, iris: Dataset) -> None:
    slow = classifier(fit="time.sleep(1)", predict="time.sleep(0.2)")

    measured = folds.run(iris, slow).measurements

    # With room for a busy machine, but not for another phase's time
    assert measured.train_time is not None
    assert measured.validation_time is not None
    assert measured.test_time is not None
    assert 1 <= measured.train_time < 1.9
    assert 0.2 <= measured.validation_time < 0.9
    assert 0.2 <= measured.test_time < 0.9
    assert measured.train_cpu_time is not None
    assert measured.train_cpu_time < 0.15


def test_slots_run_at_the_same_time(process_folds: Folds, iris: Dataset) -> None:
    # Given two folds of which each waits for a file that the other writes
    meets = classifier(
        "open(f'{folder}/{mine}', 'w').close()\n"
        "        while not os.path.exists(f'{folder}/{other}'): time.sleep(0.001)"
    )
    folder = process_folds.scratch
    texts = [
        meets.replace("{folder}", str(folder)).replace("{mine}", mine).replace("{other}", other)
        for mine, other in (("one", "two"), ("two", "one"))
    ]

    # When they run in two slots
    running = [process_folds.begin(iris, text, slot=slot) for slot, text in enumerate(texts)]

    # Then both end
    assert [fold.outcome().state for fold in running] == [FoldState.TESTED] * 2
