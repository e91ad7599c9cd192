"""No fold sees what it should not, and nothing of it is left for the next one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from consumer.jobs import FoldOutcome
from schemas.states import Culprit, FailureKind, FoldState, Phase
from tests.integration.test_execution_workflows import RISES, SPECIFIC
from tests.support.deadline import wait_until
from tests.support.folds import Dataset, Folds, make_custom, make_dataset
from tests.support.submissions import DUMMY

SEARCHES_ITS_MEMORY = '''
import re

def found(mark):
    """How often `mark` + a number stands in this process's own memory."""
    numbers = set()
    pattern = re.compile("".join(f"{letter}\\0\\0\\0" for letter in mark).encode()
                         + b"((?:[0-9]\\0\\0\\0){3})")
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, rest = line.split(maxsplit=2)
            start, end = (int(address, 16) for address in span.split("-"))
            if "r" not in rights or "[v" in rest:
                continue
            try:
                memory.seek(start)
                content = memory.read(end - start)
            except OSError:
                continue
            numbers |= {match.group(1).decode("utf-32-le") for match in pattern.finditer(content)}
    return sorted(numbers)
'''


def alive(pid: int) -> bool:
    """Not merely unreaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def printed_pids(outcome: FoldOutcome) -> list[int]:
    return [int(word) for word in outcome.output.stdout.split() if word.isdigit()]


def classifier(fit: str) -> str:
    return f"""
import os, signal, subprocess, sys, time
import numpy as np

class Classifier:
    def fit(self, X, y):
        {fit}

    def predict_proba(self, X):
        return np.ones((len(X), 3))
"""


@pytest.fixture(name="folds", scope="module")
def at_level_process(process_folds: Folds) -> Folds:
    """Where it is the worker, not the kernel, that keeps a fold in bounds."""
    return process_folds


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Labels that can be recognised anywhere: `label-000` to `label-099`."""
    labels = np.array([f"label-{row:03}" for row in range(100)])
    return make_dataset(
        tmp_path_factory.mktemp("marked") / "parts",
        (np.zeros((100, 2)), np.zeros((10, 2))),
        labels,
    )


def test_labels_outside_the_fold_are_nowhere_in_its_memory(folds: Folds, marked: Dataset) -> None:
    # Given folds of this data set that ran before, in the same slots, on all the labels
    searches = classifier("from .search import found; print(*found('label-'))")
    files = {"classifier.py": searches, "search.py": SEARCHES_ITS_MEMORY}
    for slot in (0, 1):
        everything = folds.run(marked, files, slot=slot, train_is=np.arange(100))
        assert len(everything.output.stdout.split()) == 100, everything

    # When a fold on three rows searches its own memory
    outcome = folds.run(marked, files, train_is=[3, 14, 59])

    # Then it finds the labels of these three
    assert outcome.output.stdout.split() == ["003", "014", "059"]


def test_custom_fold_holds_no_other_labels_either(folds: Folds, tmp_path: Path) -> None:
    code = SPECIFIC.replace(
        "classifier.fit(",
        "from search import found; \
print(*found('label-'))\n        classifier.fit(",
    )
    dataset = make_custom(
        tmp_path / "series", code, elements="classifier", **{"search.py": SEARCHES_ITS_MEMORY}
    )
    labels = np.array([f"label-{row:03}" for row in range(12)])
    np.save(dataset.folder / "y_train.npy", labels)

    outcome = folds.run(dataset, RISES, train_is=[2, 5])

    assert outcome.output.stdout.split() == ["002", "005"], outcome


def test_environment_holds_nothing_of_the_worker(
    folds: Folds, iris: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker with secrets in its environment
    monkeypatch.setenv("DATARUN_BROKER", "amqp://secret")
    separate = Folds(tmp_path / "scratch", slots=1)
    shows = "print(dict(os.environ), open('/proc/self/environ').read(), \
open(f'/proc/{os.getppid()}/environ').read())"
    try:
        # When a fold prints its environment, and what it was started with
        outcome = separate.run(iris, classifier(shows))
    finally:
        separate.close()

    # Then they are not there
    assert outcome.state is FoldState.TESTED
    assert "PATH" in outcome.output.stdout
    assert "DATARUN" not in outcome.output.stdout
    assert "secret" not in outcome.output.stdout


def test_fold_has_its_own_descriptors_and_session_only(folds: Folds, iris: Dataset) -> None:
    shows = "print(sorted(map(int, os.listdir('/proc/self/fd'))), os.getsid(0) == os.getpid(),\
 sys.stdin.read() == '', os.path.isdir(os.environ['TMPDIR']))"

    outcome = folds.run(iris, classifier(shows))

    # 4 is the listing itself
    assert outcome.output.stdout == "[0, 1, 2, 3, 4] True True True\n"


def test_files_of_a_fold_are_removed(folds: Folds, iris: Dataset) -> None:
    # Given a submission that writes files and takes away the permission to remove them
    writes = "import tempfile; folder = tempfile.mkdtemp(); print(folder); \
open(folder + '/file', 'w').write('x'); os.chmod(folder, 0)"

    # When it has run
    outcome = folds.run(iris, classifier(writes))

    # Then they are gone
    folder = Path(outcome.output.stdout.strip())
    assert folder.is_relative_to(folds.scratch)
    wait_until(lambda: not folder.exists(), what="removal of the fold's files")


DAEMON = """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                for descriptor in range(256):
                    try: os.close(descriptor)
                    except OSError: pass
                time.sleep(600)
            os._exit(0)
        os.wait()
        while True:
            children = open(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read().split()
            if len(children) > 1: break
            time.sleep(0.001)
        print(*children)"""


@pytest.mark.parametrize("after", ["", "\n        os._exit(1)", "\n        time.sleep(600)"])
def test_daemon_of_a_fold_dies_with_it(folds: Folds, iris: Dataset, after: str) -> None:
    # Given a submission that leaves a daemon in a session of its own
    # When the fold ends, dies, or is stopped
    outcome = folds.run(iris, classifier(f"pass{DAEMON}{after}"), wall=2)

    # Then its daemon is dead as soon as its outcome is known
    pids = printed_pids(outcome)
    assert len(pids) == 2, outcome
    assert not any(alive(pid) for pid in pids)


@pytest.mark.slow
def test_fork_bomb_ends_and_leaves_nothing(folds: Folds, iris: Dataset) -> None:
    # Given a submission that forks without end
    bomb = "\n        while True:\n            try: os.fork()\n            except OSError: pass"

    # When it may have 60 processes
    outcome = folds.run(iris, classifier(f"pass{bomb}"), processes=60, wall=10)

    # Then it is stopped, and the slot takes the next fold
    assert outcome.verdict is not None
    assert outcome.verdict.kind in (FailureKind.CRASHED, FailureKind.TIMEOUT)
    assert folds.run(iris, DUMMY).state is FoldState.TESTED
    folders = [process.info["cwd"] or "" for process in psutil.process_iter(["cwd"])]
    assert not [folder for folder in folders if folder.startswith(f"{folds.scratch}/fold-")]


def written_pid(path: Path) -> int:
    """Waits for the fold that writes it."""
    return int(wait_until(lambda: path.exists() and path.read_text(), what="the fold"))


def sleeping(path: Path) -> str:
    return classifier(
        f"pid = os.fork() or time.sleep(600); \
open({str(path)!r}, 'w').write(str(pid)); time.sleep(600)"
    )


def test_cancelled_fold_is_dead_before_the_cancellation_is_over(
    folds: Folds, iris: Dataset, tmp_path: Path
) -> None:
    # Given a fold that has started another process, and sleeps
    pid_file = tmp_path / "pid"
    folds.begin(iris, sleeping(pid_file))
    child = written_pid(pid_file)
    parent = psutil.Process(child).ppid()

    async def cancel() -> None:
        (task,) = [
            task for task in asyncio.all_tasks() if "FoldExecutor.run" in repr(task.get_coro())
        ]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Then both are dead when its task has ended
        assert not alive(child)
        assert not alive(parent)

    # When it is cancelled
    folds.wait(cancel())

    # Then the slot takes the next fold
    assert folds.run(iris, DUMMY).state is FoldState.TESTED


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_fold_that_attacks_its_slot_gets_its_verdict_and_the_slot_comes_back(
    folds: Folds, iris: Dataset, tmp_path: Path, how: signal.Signals
) -> None:
    # Given a submission that kills or stops the process that watches it, and has a child
    pid_file = tmp_path / "pid"
    attack = sleeping(pid_file).replace(
        "; time.sleep(600)\n", f"; os.kill(os.getppid(), {how.value}); time.sleep(600)\n"
    )

    # When it runs, and may run for a second
    outcome = folds.run(iris, attack, wall=1)

    # Then it has a verdict, its child is dead, and the slot takes the next fold
    assert outcome.verdict is not None
    assert outcome.verdict.culprit is Culprit.SUBMISSION
    expected = FailureKind.CRASHED if how is signal.SIGKILL else FailureKind.TIMEOUT
    assert outcome.verdict.kind is expected
    assert not alive(int(pid_file.read_text()))
    assert folds.run(iris, DUMMY).state is FoldState.TESTED


def test_idle_processes_that_were_killed_come_back(iris: Dataset, tmp_path: Path) -> None:
    # Given a warm executor of its own
    folds = Folds(tmp_path / "scratch", slots=1)
    try:
        slot = psutil.Process(folds.slot_pid())
        zygote = slot.parent()
        assert zygote is not None
        (ahead,) = wait_until(slot.children, what="a process forked ahead of its fold")

        # When the process that waits for a fold, then its slot, then its zygote are killed
        # Then the next fold runs as ever
        ahead.kill()
        assert folds.run(iris, DUMMY).state is FoldState.TESTED
        slot.kill()
        assert folds.run(iris, DUMMY).state is FoldState.TESTED
        zygote.kill()
        assert folds.run(iris, DUMMY).state is FoldState.TESTED
    finally:
        folds.close()


def test_a_zygote_killed_while_it_warms_up_is_started_again(iris: Dataset, tmp_path: Path) -> None:
    # Given a fold for which a new zygote is started
    folds = Folds(tmp_path / "scratch", slots=1)
    try:
        former = folds.zygote()
        os.kill(folds.slot_pid(), signal.SIGKILL)
        former.kill()
        running = folds.begin(iris, DUMMY)

        # When that one is killed too, before it is warm
        def next_one() -> psutil.Process | None:
            with contextlib.suppress(ValueError, psutil.NoSuchProcess):
                found = folds.zygote()
                return found if found.pid != former.pid else None
            return None

        second = wait_until(next_one, every=0.01, what="the next zygote")
        assert second is not None
        second.kill()

        # Then the fold runs all the same
        assert running.outcome().state is FoldState.TESTED
    finally:
        folds.close()


def test_a_stopped_slot_does_not_outlive_its_zygote(iris: Dataset, tmp_path: Path) -> None:
    # Given a fold whose slot is stopped
    folds = Folds(tmp_path / "scratch", slots=1)
    try:
        running = folds.begin(iris, sleeping(tmp_path / "pid"), wall=600)
        child = written_pid(tmp_path / "pid")
        slot = psutil.Process(folds.slot_pid())
        slot.suspend()

        # When the zygote is killed, and the worker ends
        folds.zygote().kill()
        folds.wait(folds.executor.close())
        assert running.outcome().verdict is not None
    finally:
        folds.close()

    # Then nothing of it is left
    wait_until(lambda: not alive(slot.pid) and not alive(child), what="the end of the slot")


def test_idle_processes_that_were_stopped_go_on(iris: Dataset, tmp_path: Path) -> None:
    # Given a warm executor of its own, whose processes somebody stops
    folds = Folds(tmp_path / "scratch", slots=1)
    try:
        for is_slot in (True, False):
            slot = psutil.Process(folds.slot_pid())
            (ahead,) = wait_until(slot.children, what="a process forked ahead of its fold")
            (slot if is_slot else ahead).suspend()

            # When the next fold may take minutes
            outcome = folds.begin(iris, DUMMY, wall=600).outcome(20)

            # Then it runs at once
            assert outcome.state is FoldState.TESTED, outcome
    finally:
        folds.close()


def test_a_process_that_dies_with_its_order_unread_is_nobodys_fault(
    folds: Folds, iris: Dataset
) -> None:
    # Given a process forked ahead of its fold, which is stopped, so that it reads nothing
    slot = psutil.Process(folds.slot_pid())
    (ahead,) = wait_until(slot.children, what="a process forked ahead of its fold")

    # When it is killed between its order and its first step
    outcomes = []
    for _ in range(20):
        ahead.suspend()
        running = folds.begin(iris, DUMMY)
        ahead.kill()
        outcomes.append(running.outcome(30))
        (ahead,) = wait_until(slot.children, what="the next one")

    # Then the fold is begun again; its slot lets it go on, so on a busy machine it may have got
    # as far as the submission's own code
    in_time = [
        each for each in outcomes if each.verdict is None or each.verdict.phase is Phase.DATA
    ]
    assert len(in_time) > 10
    assert all(each.state is FoldState.TESTED for each in in_time)


WORKER = """
import sys
from pathlib import Path
from tests.support.folds import Folds, make_iris
folder = Path(sys.argv[1])
folds = Folds(folder / "scratch", slots=1)
folds.begin(make_iris(folder / "iris"), sys.argv[2]).outcome(600)
"""


@pytest.mark.parametrize("are_stopped", [False, True], ids=["", "stopped"])
def test_zygote_and_folds_die_with_their_worker(tmp_path: Path, are_stopped: bool) -> None:
    # Given a process that runs a fold which sleeps
    pid_file = tmp_path / "pid"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), sleeping(pid_file)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    child = written_pid(pid_file)
    below = [process.pid for process in psutil.Process(worker.pid).children(recursive=True)]
    assert child in below

    # When it is killed without warning, zygote and slot being stopped or not
    if are_stopped:
        for ancestor in psutil.Process(child).parents()[1:3]:
            ancestor.suspend()
    worker.kill()
    worker.wait()

    # Then everything below it is gone soon
    wait_until(lambda: not any(alive(pid) for pid in below), what="the end of the fold")
