"""examples/databoard.py, both ways, as its first lines say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.command import ROOT, Folder, environment, running

__all__ = ["running"]

LINE = re.compile(r"^ *(\d+)  (\w+) +(TESTED|ERROR|CANCELLED)(.*)$", re.MULTILINE)


def databoard(running: Folder, way: str) -> list[tuple[int, str, str, str]]:
    """Fold, submission, state, and the rest of each line that the example prints."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "databoard.py", way],
        cwd=running.path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{running.logs()}"
    return [(int(fold), name, state, rest) for fold, name, state, rest in LINE.findall(done.stdout)]


@pytest.mark.parametrize(("way", "base"), [("rest", 0), ("messages", 1000)])
def test_every_fold_is_scored_or_says_why_not_the_second_time_too(
    running: Folder, way: str, base: int
) -> None:
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
