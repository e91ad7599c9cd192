"""Whoever checks the attacks sees it when one succeeds: a check that cannot fail checks nothing."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datarun.attack.attack import ROOMY, STOLEN, SYSV_KEY, Attack, Family, regressor
from datarun.attack.catalogue import ATTACKS, selected
from datarun.attack.ground import Ended
from datarun.attack.runner import Runner, judge
from datarun.attack.traces import Traces
from schemas.errors import ConfigurationError
from schemas.messages import Limits
from schemas.states import FoldState, Isolation
from tests.support.attack_ground import ExecutorGround

WELL = Ended(
    results=1,
    state=FoldState.TESTED,
    verdict=None,
    output="",
    predictions=(np.zeros(100), np.zeros(50)),
    cpu=0.0,
    memory=1.0,
)
"""How a fold ends that nothing is wrong with."""

SOON = 0.5
"""What is left here stays: it need not be waited for."""


def attack_named(name: str) -> Attack:
    (found,) = selected([name])
    return found


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorGround]:
    """At level `process`, where files, processes and network of the host are in sight."""
    folder = tmp_path_factory.mktemp("checks")
    with closing(ExecutorGround(folder, Isolation.PROCESS)) as ground:
        yield ground


@pytest.fixture(scope="module")
def runner(ground: ExecutorGround) -> Runner:
    return Runner(ground, settling_seconds=SOON)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_that_goes_unnoticed_is_a_problem(attack: Attack) -> None:
    # When it ends as if nothing were wrong with it, and says nothing, or that it has got something
    # Then that is a problem
    assert judge(attack, WELL)
    assert judge(attack, replace(WELL, output=f"{STOLEN} a label"))


def test_a_vague_verdict_is_a_problem(ground: ExecutorGround) -> None:
    # Given an attack that has to be told of its exit code
    attack = attack_named("exit-97")
    ended = ground.run(attack.files, attack.limits)
    assert ended.verdict is not None
    assert judge(attack, ended) == []

    # When its verdict has another sentence, phase, or culprit, or two results are stored
    # Then that is a problem
    for change in (
        {"message": "crashed: 97"},
        {"phase": "test"},
        {"culprit": "infrastructure"},
        {"kind": "exception"},
    ):
        vague = ended.verdict.model_validate({**ended.verdict.model_dump(), **change})
        assert judge(attack, replace(ended, verdict=vague))
    assert judge(attack, replace(ended, results=2))


@pytest.fixture
def listeners() -> Iterator[None]:
    """Somebody listens on the host."""
    with socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0datarun-test-listener")
        unix.listen()
        yield


@pytest.mark.parametrize(
    ("name", "loot"),
    [
        ("host-files", "/etc/shadow|users of the host"),
        ("environment", "environ"),
        ("network", "port|unix socket"),
        ("other-processes", "process"),
        ("kernel", "the kernel listens"),
        ("labels", "labels in files"),
        ("neighbours", "process"),
        ("nameless-files", "memfd_create"),
    ],
)
def test_theft_is_seen_where_nothing_prevents_it(
    runner: Runner, listeners: None, name: str, loot: str
) -> None:
    # When it is run at level `process`
    report = runner.run(attack_named(name))
    subprocess.run(["ipcrm", "-M", hex(SYSV_KEY)], check=False, capture_output=True)

    # Then it gets what it is after, and that is seen
    assert any(
        problem.startswith("stolen") and re.search(loot, problem) for problem in report.problems
    ), report


def test_limits_that_are_not_held_are_seen(ground: ExecutorGround) -> None:
    for name, change in (
        ("sparse-terabyte", {"memory_bytes": 2 << 40}),
        ("sleep", {"wall_seconds": 1.5}),
        ("thread-bomb", {"processes": 80}),
        ("many-children", {"memory_bytes": 200 << 20}),
    ):
        attack = attack_named(name)
        assert judge(attack, ground.run(attack.files, attack.limits.model_copy(update=change))), (
            name
        )


def test_files_that_are_left_are_seen(ground: ExecutorGround, runner: Runner) -> None:
    report = runner.run(attack_named("leaves-files"))
    for folder in ("/tmp", "/dev/shm", "/var/tmp", ground.folds.scratch):
        Path(folder, "datarun-attack-left").unlink(missing_ok=True)

    assert any("files left" in problem for problem in report.problems), report
    assert "the next honest fold found /tmp/datarun-attack-left" in report.problems


class Leaking:
    """A ground on which each attack leaves something."""

    def __init__(self, ground: ExecutorGround, leave: Callable[[], object]) -> None:
        self.isolation = ground.isolation
        self._ground = ground
        self._leave = leave

    def run(self, files: Mapping[str, str], limits: Limits, *, all_labels: bool = False) -> Ended:
        if not all_labels:
            self._leave()
        return self._ground.run(files, limits, all_labels=all_labels)

    def traces(self) -> Traces:
        return self._ground.traces()

    def neighbour_lives(self) -> bool:
        return self._ground.neighbour_lives()


def test_whatever_is_left_is_seen(ground: ExecutorGround, tmp_path: Path) -> None:
    harmless = Attack(Family.EXITS, "harmless", "Does nothing.", regressor())
    scratch = ground.folds.scratch
    held: list[object] = []

    def starts_a_process() -> None:
        sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
        held.append(subprocess.Popen(sleeper))

    def starts_a_stray() -> None:
        """Whose parent is not the worker."""
        (scratch / "stray").mkdir()
        script = "import os, time\nif os.fork() == 0: time.sleep(60)"
        subprocess.run([sys.executable, "-c", script], cwd=scratch / "stray", check=True)

    def leaves_a_file() -> None:
        (scratch / "fold-left").touch()

    for leave, sentence in (
        (starts_a_process, "process"),
        (starts_a_stray, "process"),
        (leaves_a_file, "files left"),
        (lambda: held.append(os.open(tmp_path, os.O_RDONLY)), "more open files"),
    ):
        report = Runner(Leaking(ground, leave), settling_seconds=SOON).run(harmless)
        assert any(sentence in problem for problem in report.problems), (leave, report)
        for kept in held:
            if isinstance(kept, int):
                os.close(kept)
            elif isinstance(kept, subprocess.Popen):
                kept.kill()
                kept.wait()
        held.clear()
    _kill_strays(scratch)
    (scratch / "fold-left").unlink()


def _kill_strays(folder: Path) -> None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.readlink(entry / "cwd") == str(folder / "stray"):
                    os.kill(int(entry.name), 9)
    (folder / "stray").rmdir()


@pytest.mark.parametrize(
    "change",
    [
        {"predictions": (np.ones(100), np.zeros(50))},
        {"cpu": 5.0},
        {"memory": 1e6},
        {"output": "FOUND a file"},
        {"results": 2},
        {"state": FoldState.ERROR},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_in_the_next_fold_is_seen(
    ground: ExecutorGround, change: dict[str, object]
) -> None:
    # Given a ground whose honest folds change after an attack
    attacked = False

    class Changing(Leaking):
        def run(
            self, files: Mapping[str, str], limits: Limits, *, all_labels: bool = False
        ) -> Ended:
            nonlocal attacked
            attacked = attacked or not all_labels
            return replace(WELL, **change) if attacked and all_labels else WELL  # type: ignore[arg-type]

    harmless = Attack(Family.EXITS, "harmless", "Does nothing.", {}, limits=ROOMY)
    runner = Runner(Changing(ground, lambda: None), settling_seconds=SOON)

    # Then that is seen
    assert [problem for problem in runner.run(harmless).problems if "honest" in problem]


def test_attacks_that_harm_the_host_are_not_run_below_strict(runner: Runner) -> None:
    for attack in ATTACKS:
        if attack.harmful:
            assert runner.run(attack).skipped == "it would harm this host at level process"


def test_attacks_are_selected_by_name_and_by_family() -> None:
    assert [one.name for one in selected(["sleep", "fork-bomb"])] == ["fork-bomb", "sleep"]
    assert {one.family for one in selected(["theft"])} == {Family.THEFT}
    assert selected([]) == ATTACKS
    with pytest.raises(ConfigurationError, match="no attack 'thefts'"):
        selected(["thefts"])
