"""`datarun attack`: attacks on a whole stack, a table, and nothing left behind."""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path

import pytest

from tests.support.command import Folder, folder, wait_until_nothing_is_left
from tests.support.pages import run_by
from tests.support.strict import require_strict

__all__ = ["folder"]

FEW = ("sigsegv", "daemons", "sleep", "labels", "network", "environment", "pickle-as-predictions")


@pytest.mark.slow
@pytest.mark.parametrize("level", ["strict", "process"])
def test_attack_tells_whether_anything_came_of_it(folder: Folder, level: str) -> None:
    # Given a level that holds, or one that cannot
    if level == "strict":
        require_strict()
    only = [word for name in (*FEW, "fork-bomb") for word in ("--only", name)]

    # When a few attacks are run
    with tempfile.TemporaryDirectory() as temporary:
        done = folder.run("attack", "--json", "--isolation", level, *only, TMPDIR=temporary)

        # Then nothing of its stack is left
        wait_until_nothing_is_left(Path(temporary), within=5)
        assert list(Path(temporary).iterdir()) == []

    # And what came of them is in the document, and in the exit status
    document = json.loads(done.stdout)
    assert document["isolation"] == level
    reports = {report["name"]: report for report in document["attacks"]}
    assert set(reports) == {*FEW, "fork-bomb"}
    stolen = {name for name, report in reports.items() if "stolen" in str(report["problems"])}
    if level == "strict":
        assert (done.returncode, document["failed"]) == (0, 0), done.stdout + done.stderr
        assert all(report["passed"] for report in reports.values())
    else:
        assert done.returncode == 1
        assert stolen == {"labels", "network", "environment"}
        assert reports["fork-bomb"]["skipped"] == "it would harm this host at level process"
        assert reports["sigsegv"]["passed"]
    assert reports["sigsegv"]["verdict"] == "crashed: SIGSEGV in train"
    assert reports["sleep"]["verdict"] == "timeout: 1.0 s wall in train"


@pytest.mark.slow
def test_the_page_s_commands_run_one_family_list_all_and_are_the_whole(folder: Folder) -> None:
    # Given the page's three commands
    require_strict()
    (block,) = run_by(__file__, "docs/security.md")
    typed = [shlex.split(line, comments=True)[2:] for line in block.code.splitlines()]
    whole, listing, family = typed

    # When they are typed, but for the whole, whose attacks tests/hostile/test_attacks.py runs
    listed = folder.json(*listing)
    with tempfile.TemporaryDirectory() as temporary:
        ran = folder.json(*family, TMPDIR=temporary)

    # Then the last one runs its family, and nothing comes of it
    assert whole == ["attack"]
    assert len(listed) > 100
    of_family = {one["name"] for one in listed if one["family"] == family[-1]}
    assert {one["name"] for one in ran["attacks"]} == of_family
    assert ran["failed"] == 0


def test_attacks_can_be_listed(folder: Folder) -> None:
    listed = folder.json("attack", "--list", "--only", "time")

    assert {"name", "family", "what", "expected"} == set(listed[0])
    assert {one["family"] for one in listed} == {"time"}
    assert "busy-loop" in folder.succeed("attack", "--list")


def test_an_attack_that_does_not_exist_is_an_error(folder: Folder) -> None:
    done = folder.run("attack", "--only", "thefts")

    assert done.returncode == 1
    assert "there is no attack 'thefts' and no family of that name" in done.stderr
