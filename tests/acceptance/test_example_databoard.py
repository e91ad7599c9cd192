"""examples/databoard.py, both ways, as its first lines say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.command import ROOT, Folder, environment, folder, running
from tests.support.pages import run_by
from tests.support.submissions import DUMMY

__all__ = ["folder", "running"]

UP, *WAYS = run_by(__file__, "docs/from-2016.md")[0].code.splitlines()
LINE = re.compile(r"^ *(\d+)  (\w+) +(TESTED|ERROR|CANCELLED)(.*)$", re.MULTILINE)


def started(folder: Folder, way: str) -> subprocess.CompletedProcess[str]:
    """The example, run in that folder by the page's command."""
    (typed,) = (line for line in WAYS if line.endswith(f" {way}"))
    python, example, way = typed.split()
    assert python == "python"
    return subprocess.run(
        [sys.executable, ROOT / example, way],
        cwd=folder.path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def databoard(running: Folder, way: str) -> list[tuple[int, str, str, str]]:
    """Fold, submission, state, and the rest of each line that the example prints."""
    done = started(running, way)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{running.logs()}"
    return [(int(fold), name, state, rest) for fold, name, state, rest in LINE.findall(done.stdout)]


@pytest.mark.slow
@pytest.mark.parametrize(("way", "base"), [("rest", 2000), ("messages", 1000)])
def test_every_fold_is_scored_or_says_why_not_the_second_time_too(
    running: Folder, way: str, base: int
) -> None:
    # Given a stack that runs, as after the page's first line
    assert UP == "datarun up --detach"

    # When databoard sends its submissions, and does so again
    for lines in (databoard(running, way), databoard(running, way)):
        # Then each fold of each submission is there once
        expected = [
            (base + 10 * submission + number, name)
            for submission, name in enumerate(("forest", "hasty", "neighbours"), start=1)
            for number in range(3)
        ]
        assert sorted((fold, name) for fold, name, _, _ in lines) == expected

        # And those that can learn have learnt, while the other's line says what is wrong
        for _, name, state, rest in lines:
            if name == "hasty":
                assert state == "ERROR"
                assert "LogisticRegression" in rest
                assert rest.endswith("ERROR(train)")
            else:
                assert state == "TESTED"
                validation, test, *_ = map(float, re.findall(r"\d\.\d+", rest))
                assert min(validation, test) > 0.8


@pytest.mark.parametrize("way", ["rest", "messages"])
def test_outside_of_a_stack_it_says_what_to_do(folder: Folder, way: str) -> None:
    # Given a folder where no stack runs
    # When the example is run there
    done = started(folder, way)

    # Then a sentence says what is missing
    assert done.returncode == 1
    assert "start a stack in this folder with `datarun up`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_results_of_others_stay_new(running: Folder) -> None:
    # Given a result on the example's data set that somebody else waits for
    databoard(running, "rest")
    running.submission("others", {"classifier.py": DUMMY})
    running.succeed("submit", "others", "--dataset", "iris_rest", "--cv", "2", "--wait")

    # When the example is run
    databoard(running, "rest")

    # Then it is new still
    new = {result["submission_fold_id"] for result in running.json("results", "new")}
    others = running.json("folds", "list", "--dataset", "iris_rest", "--limit", "2")
    assert {fold["submission_fold_id"] for fold in others} <= new
