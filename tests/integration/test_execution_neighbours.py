"""What a fold does to its surroundings does not reach the next one."""

from __future__ import annotations

from pathlib import Path

from schemas.states import Culprit, FoldState
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
