"""`datarun demo`: the main job, and nothing left behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from consumer.sandbox.levels import strongest
from tests.support.command import (
    ROOT,
    Folder,
    environment,
    processes_of,
    wait_until_nothing_is_left,
)
from tests.support.deadline import wait_until
from tests.support.pages import BASH, installed_with, run_by


@pytest.mark.slow
def test_demo_prints_its_table_for_programs(folder: Folder) -> None:
    # When the demo is run for a program
    with tempfile.TemporaryDirectory() as temporary:
        rows = json.loads(folder.succeed("demo", "--json", TMPDIR=temporary))

        # Then nothing is left, neither running nor on disk
        wait_until_nothing_is_left(Path(temporary), within=5)
        assert list(Path(temporary).iterdir()) == []
    assert folder.processes() == {}
    assert list(folder.path.iterdir()) == []

    # And each submission has its row
    tested = {row["submission"]: (row["dataset"], row["tested"], row["failed"]) for row in rows}
    assert tested == {
        "random_forest": ("digits", 10, 0),
        "petal_features": ("iris", 10, 0),
        "calibrated": ("digits_proba", 10, 0),
        "broken_fit": ("digits", 0, 10),
    }
    scores = {row["submission"]: row["test_score"] for row in rows}
    assert scores["random_forest"] > 0.9
    assert scores["petal_features"] > 0.85
    assert scores["calibrated"] > 0.75
    assert scores["broken_fit"] is None
    broken = next(row for row in rows if row["submission"] == "broken_fit")
    assert broken["verdict"]["phase"] == "train"
    assert broken["verdict"]["culprit"] == "submission"
    assert "AttributeError" in broken["verdict"]["message"]
    assert all(row["train_seconds"] > 0 and row["memory_kb"] > 0 for row in rows if row["tested"])


@pytest.mark.slow
def test_demo_for_a_log_file_is_plain_lines(folder: Folder) -> None:
    # When the demo's output is no terminal
    done = folder.run("demo", "--home", "kept")

    # Then there are no control codes in it, and everything is said
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert f"isolation: {strongest()} - " in done.stderr
    assert "random_forest: 10 folds, 0 failed" in done.stderr
    assert "40 results acknowledged; nothing is new any more" in done.stderr
    assert "broken_fit failed: AttributeError" in done.stdout
    assert "Try next:" in done.stdout

    # And the home that was given is still there, with nothing running in it
    assert (folder.path / "kept" / "datarun.sqlite").exists()
    assert folder.processes() == {}


@pytest.mark.slow
def test_the_readme_s_first_two_commands_run(tmp_path: Path) -> None:
    # Given somebody in a clone, who has time for one of the tests only
    demo, test = run_by(__file__, "README.md")[0].code.splitlines()
    python = installed_with()
    few = "-p no:cacheprovider -n 0 tests/unit/test_cli_words.py"

    # When he types both
    for typed in (demo, f"{test.partition('#')[0]} {few}"):
        done = subprocess.run(
            [*BASH, typed],
            cwd=ROOT,
            env=environment(PYTHON=python, TMPDIR=str(tmp_path)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        # Then there is a table of results, and the tests have passed
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"random_forest +digits +10 tested| passed", done.stdout), done.stdout
    assert processes_of(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize("file", ["rabbitmq", "connection.toml"])
def test_interrupted_demo_leaves_nothing(folder: Folder, tmp_path: Path, file: str) -> None:
    # Given a demo that starts its stack, or one that has just done so
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = folder.start("demo", TMPDIR=str(temporary))
    wait_until(lambda: list(temporary.glob(f"*/{file}")), within=60)

    # When Ctrl-C is pressed
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)

    # Then it ends quietly, and nothing is left (CPython ends by the signal itself, which shells
    # call 130 too, when the signal came inside an `exec` of some module that was being imported)
    assert command.returncode in (130, -signal.SIGINT), errors
    assert "Traceback" not in errors
    assert "stopping ..." in errors
    assert "nothing is left running" in errors.splitlines()[-1]
    wait_until_nothing_is_left(folder.path, within=5)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_killed_demo_leaves_nothing_running(folder: Folder, tmp_path: Path) -> None:
    # Given a demo in the middle
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = folder.start("demo", TMPDIR=str(temporary))
    wait_until(lambda: list(temporary.glob("*/connection.toml")), within=60)

    # When it is killed without warning
    command.kill()
    command.communicate(timeout=30)

    # Then its stack ends with it
    wait_until_nothing_is_left(temporary, within=60)
