"""The kernel's limit on what is in a slot; skipped where nobody may make control groups."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from consumer.sandbox.cgroups import SlotGroup
from schemas.states import Culprit, FailureKind, FoldState
from tests.support.deadline import wait_until
from tests.support.folds import Dataset, Folds
from tests.support.strict import require_strict, strict_if_required
from tests.support.submissions import DUMMY

ENDLESS = """
import ctypes, time
ctypes.CDLL(None).prctl(15, b"sleeper", 0, 0, 0)
time.sleep(60)
"""
WAITS = "import sys; sys.stdin.readline(); "


@pytest.fixture
def group() -> Iterator[SlotGroup]:
    before = set(made_groups())
    made = SlotGroup.make()
    folders = [Path(path) for path in set(made_groups()) - before]
    missing = {"memory", "pids"} - set(made.resources)
    if missing:
        made.remove()
        pytest.skip(f"this user may not make control groups of {', '.join(sorted(missing))}")
    yield made
    made.remove()
    assert not any(folder.exists() for folder in folders), "it stays behind"


@pytest.fixture(scope="module")
def one_slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folds]:
    folder = tmp_path_factory.mktemp("one-slot")
    with contextlib.closing(Folds(folder, 1, isolation=strict_if_required())) as running:
        yield running


def made_groups() -> list[str]:
    """Those of this process's slots that are there now."""
    return list(map(str, Path("/sys/fs/cgroup").rglob("datarun-slot-*")))


def child_named(parent: psutil.Process, name: str) -> psutil.Process | None:
    """The one process below `parent` that has this name."""
    return next((child for child in parent.children() if child.name() == name), None)


def run_in(group: SlotGroup, code: str) -> int:
    """The wait status of a Python that is put into the group before it runs `code`."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITS + code], stdin=subprocess.PIPE, text=True
    ) as process:
        group.take(process.pid)
        process.communicate("go\n", timeout=60)
    return process.returncode


def memory_limit_of(group: SlotGroup) -> Path:
    """The file with the limit."""
    with subprocess.Popen(["sleep", "60"]) as process:
        group.take(process.pid)
        holds = [
            Path(folder)
            for folder in made_groups()
            if str(process.pid) in (Path(folder) / "cgroup.procs").read_text().split()
        ]
        process.kill()
    names = ("memory.max", "memory.limit_in_bytes")
    return next(folder / name for folder in holds for name in names if (folder / name).exists())


def test_kernel_kills_what_takes_too_much_memory_at_once(group: SlotGroup) -> None:
    # Given a group that may have 100 MiB
    group.limit(100 << 20, 16)

    # When a process takes 1 GiB in one go
    status = run_in(group, "taken = b'x' * (1 << 30)")

    # Then it is dead, and the group says why
    assert status == -signal.SIGKILL
    assert group.enforced() == "memory"

    # And no longer when the next fold begins
    group.limit(100 << 20, 16)
    assert group.enforced() is None


def test_kernel_refuses_more_processes_than_allowed(group: SlotGroup) -> None:
    group.limit(1 << 30, 16)

    status = run_in(
        group,
        "import threading, time\n"
        "for _ in range(100):\n"
        "    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
    )

    assert status == 1
    assert group.enforced() == "processes"


def test_what_stays_within_its_limits_is_left_alone(group: SlotGroup) -> None:
    group.limit(100 << 20, 16)

    assert run_in(group, "taken = b'x' * (50 << 20)") == 0
    assert group.enforced() is None


def test_what_dies_by_another_limit_is_not_said_to_have_met_its_own(group: SlotGroup) -> None:
    # Given a group that may have 1 GiB, in one that may have 100 MiB, as in a small container
    group.limit(100 << 20, 16)
    limit = memory_limit_of(group)
    outer, unified = limit.parent, limit.name == "memory.max"
    inner = outer / "inner"
    if unified:
        (outer / "cgroup.subtree_control").write_text("+memory")
    inner.mkdir()
    below = SlotGroup(inner, unified=unified)
    below.limit(1 << 30, 16)

    # When a process takes what is between
    try:
        status = run_in(below, "taken = b'x' * (500 << 20)")

        # Then it is dead, and not for the inner limit
        assert status == -signal.SIGKILL
        assert below.enforced() is None
    finally:
        below.remove()


def test_limit_that_could_not_be_lowered_is_lowered_for_the_next_fold(group: SlotGroup) -> None:
    # Given a group with more in it than the next fold may have, which nothing can take away
    group.limit(1 << 30, 16)
    file = memory_limit_of(group)
    limit = int(file.read_text())
    code = "taken = b'x' * (300 << 20); print('has it', flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", WAITS + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        group.take(holder.pid)
        holder.stdin.write("go\n")
        holder.stdin.flush()
        holder.stdout.readline()
        group.limit(100 << 20, 16)
        if file.name == "memory.max":
            holder.kill()
            pytest.skip("version 2 kills what is too much")
        assert int(file.read_text()) == limit
        holder.communicate("go\n")

    # When the next fold has the same limit
    group.limit(100 << 20, 16)

    # Then it is set
    assert int(file.read_text()) < limit


def test_next_fold_has_limits_of_its_own(
    one_slot: Folds,
    iris: Dataset,
    group: SlotGroup,
) -> None:
    # Given a fold that wants 300 MiB, in a child
    greedy = """
        import subprocess, sys
        from sklearn.dummy import DummyClassifier

        class Classifier(DummyClassifier):
            def fit(self, X, y):
                subprocess.run([sys.executable, "-c", "b'x' * (300 << 20)"], check=True)
                return super().fit(X, y)
        """

    # When it runs with less, with enough, and with less again
    ends = [one_slot.run(iris, greedy, memory=size << 20) for size in (100, 1000, 100)]

    # Then its limit is that of its own job
    assert [end.state for end in ends] == [FoldState.ERROR, FoldState.TESTED, FoldState.ERROR]
    for end in (ends[0], ends[2]):
        assert end.verdict is not None
        assert end.verdict.kind is FailureKind.MEMORY
        assert end.verdict.message.startswith("memory: ")


def test_group_goes_with_its_slot(
    one_slot: Folds,
    iris: Dataset,
    group: SlotGroup,
) -> None:
    # Given a slot with its group
    before = made_groups()
    slot = psutil.Process(one_slot.slot_pid())

    # When the slot is killed, and another takes its place
    slot.kill()
    wait_until(lambda: not slot.is_running(), within=10, what="the slot's end")
    assert one_slot.run(iris, DUMMY).state is FoldState.TESTED

    # Then there are as many groups as slots
    after = made_groups()
    assert len(after) == len(before)
    assert set(after) != set(before)


def test_fold_that_takes_long_to_die_does_not_cost_its_slot(one_slot: Folds, iris: Dataset) -> None:
    require_strict()
    # Given a slot whose namespace takes long to be emptied, and a fold that has to be killed
    slot = psutil.Process(one_slot.slot_pid())
    reaper = wait_until(lambda: child_named(slot, "fold reaper"), what="the reaper")
    reaper.suspend()
    fold = one_slot.begin(iris, "import os, time\nos.close(3)\ntime.sleep(60)")

    # When that is done after more than the time in which a slot has to answer
    with pytest.raises(psutil.TimeoutExpired):
        slot.wait(6)
    reaper.resume()

    # Then the fold has its verdict, and the same slot runs the next one
    verdict = fold.outcome().verdict
    assert verdict is not None
    assert "closed the connection" in verdict.message
    assert one_slot.run(iris, DUMMY).state is FoldState.TESTED
    assert one_slot.slot_pid() == slot.pid


def test_strict_fold_is_not_blamed_for_its_slot(one_slot: Folds, iris: Dataset) -> None:
    require_strict()
    # Given a fold in training, which cannot reach its slot
    slot = psutil.Process(one_slot.slot_pid())
    fold = one_slot.begin(iris, ENDLESS)
    wait_until(lambda: child_named(slot, "sleeper"), what="the fold's first words")

    # When the slot is killed
    slot.kill()

    # Then it is not the submission's fault
    verdict = fold.outcome().verdict
    assert verdict is not None
    assert verdict.culprit is Culprit.INFRASTRUCTURE
