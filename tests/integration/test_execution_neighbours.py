"""What a fold does to its surroundings does not reach the next one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from schemas.states import Culprit, FoldState
from tests.support.deadline import wait_until
from tests.support.folds import Dataset, Folds
from tests.support.submissions import DUMMY

STOPS_THE_ZYGOTE = """
import os, signal, time
import psutil

class Classifier:
    def fit(self, X, y):
        zygote = psutil.Process(os.getppid()).ppid()
        os.kill(zygote, signal.SIGSTOP)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
"""

OCCUPIES_THE_NEXT_FOLDER = """
import os, pathlib, re

own = pathlib.Path(os.environ["HOME"])
number = re.search("[0-9]+$", own.name)
for ahead in range(1, 20) if number else ():
    name = own.name[:number.start()] + str(int(number[0]) + ahead)
    (own.parent / name / "tmp").mkdir(parents=True)
"""


@pytest.fixture(name="folds", scope="module")
def at_level_process(process_folds: Folds) -> Folds:
    """Where folds are of the worker's own user, and can do something to it."""
    return process_folds


def test_a_zygote_that_was_stopped_goes_on(iris: Dataset, tmp_path: Path) -> None:
    # Given an executor of its own, whose fold stops the zygote and kills its slot
    folds = Folds(tmp_path / "scratch", slots=1)
    try:
        outcome = folds.run(iris, STOPS_THE_ZYGOTE, wall=5)
        assert outcome.verdict is not None
        assert outcome.verdict.culprit is Culprit.SUBMISSION

        # Then the next fold runs as ever
        assert folds.begin(iris, DUMMY).outcome(20).state is FoldState.TESTED
    finally:
        folds.close()


def test_the_next_folds_folder_cannot_be_guessed(folds: Folds, iris: Dataset) -> None:
    assert folds.run(iris, OCCUPIES_THE_NEXT_FOLDER + DUMMY).state is FoldState.TESTED
    outcome = folds.run(iris, DUMMY)
    assert (outcome.state, outcome.verdict) == (FoldState.TESTED, None)


PUTS_A_PIPE_IN_PLACE_OF_ITS_FOLDER = """
import os, shutil

own = os.environ["HOME"]
os.chdir("/")
shutil.rmtree(own)
os.mkfifo(own)
"""


@pytest.mark.timeout(60)
def test_a_fold_that_replaces_its_folder_keeps_nobody_waiting(folds: Folds, iris: Dataset) -> None:
    assert folds.run(iris, PUTS_A_PIPE_IN_PLACE_OF_ITS_FOLDER + DUMMY).state is FoldState.TESTED
    # The slot would open the pipe, and wait for a writer.
    outcome = folds.begin(iris, DUMMY, wall=600).outcome(20)
    assert (outcome.state, outcome.verdict) == (FoldState.TESTED, None)


WRITES_MANY_FILES = """
import os

for number in range(30_000):
    os.close(os.open(f"{number}", os.O_CREAT))
"""


@pytest.mark.parametrize("is_killed", [False, True], ids=["slot-lives", "slot-killed"])
def test_files_that_take_long_to_remove_do_not_hold_up_the_slot(
    iris: Dataset, tmp_path: Path, is_killed: bool
) -> None:
    # Given a fold that has left tens of thousands of files
    folds = Folds(tmp_path / "scratch", slots=1)
    try:
        assert folds.run(iris, WRITES_MANY_FILES + DUMMY).state is FoldState.TESTED
        (before,) = folds.scratch.iterdir()

        # When the next one begins, the slot being killed meanwhile or not
        if is_killed:
            os.kill(folds.slot_pid(), signal.SIGKILL)
        outcome = folds.run(iris, DUMMY)

        # Then it runs as ever, and no file stays
        assert (outcome.state, outcome.verdict) == (FoldState.TESTED, None)
        wait_until(lambda: not before.exists(), what="removal of the fold's files")
    finally:
        folds.close()
