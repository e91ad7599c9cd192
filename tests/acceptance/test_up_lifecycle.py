"""A stack of `datarun up` while it runs, and after one of its processes, or all, were killed."""

from __future__ import annotations

import os
import re
import signal
import stat
import tomllib
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from datarun import Client
from tests.support.command import (
    Folder,
    processes_of,
    stack_in,
    wait_until_nothing_is_left,
)
from tests.support.deadline import wait_until
from tests.support.pages import run_by
from tests.support.rabbitmq import Vhost
from tests.support.submissions import DUMMY


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A folder with a whole stack, for all tests of this file: RabbitMQ is one of its processes."""
    with stack_in(tmp_path_factory.mktemp("running")) as folder:
        yield folder


def test_running_stack_is_found_from_a_folder_below(running: Folder) -> None:
    # Given a stack, and somebody deeper in the tree
    below = running.path / "deep" / "down"
    below.mkdir(parents=True)

    # When status is asked for there
    status = Folder(below).json("status")

    # Then queues, workers and counts of that stack are shown
    assert status["queues"]["datarun.folds.default"] == {"messages": 0, "consumers": 2}
    assert {worker["role"]: worker["slots"] for worker in status["workers"]} == {
        "folds": 2,
        "prepare": 1,
    }
    assert status["database"] == "sqlite"
    assert "folds worker" not in Folder(below).succeed("status")


@pytest.mark.slow
def test_stack_of_a_folder_above_is_named_and_left_alone(running: Folder, vhost: Vhost) -> None:
    # Given a stack, and somebody deeper in the tree
    below = Folder(running.path / "other")
    below.path.mkdir()

    # When he stops what runs there
    refused = below.run("down")

    # Then nothing is stopped, and he is told how it could be
    assert refused.returncode == 1
    assert f"a stack runs in {running.home}" in refused.stderr
    assert f"`datarun down --home {running.home}`" in refused.stderr
    assert running.json("status")["workers"]

    # And a stack of his own is started and stopped beside it
    up = below.run("up", "--detach", "--slots", "1", DATARUN_BROKER=vhost.admin_url)
    assert up.returncode == 0, up.stderr
    assert f"another datarun runs in {running.home}; this one is its own" in up.stderr
    assert below.json("down") == {"home": str(below.home), "was_running": True}
    assert running.json("status")["workers"]


def test_second_up_in_the_same_home_says_that_one_is_running(running: Folder) -> None:
    # Given a running stack
    supervisor = running.connection()["supervisor"]

    for arguments in (("up",), ("up", "--detach")):
        # When another one is started in its home
        done = running.run(*arguments)

        # Then it is refused, and the first one goes on
        assert done.returncode == 1
        assert f"already running in {running.home} (process {supervisor})" in done.stderr
    assert running.json("status")["workers"]
    assert "stack_failed" not in (running.home / "logs/supervisor.log").read_text()


def test_a_pool_without_a_worker_is_seen_by_who_asks_for_the_status(running: Folder) -> None:
    # Given a further pool, declared as an error's sentence says, and a fold in it
    running.succeed("broker", "setup", "--pool", "gpu")
    with Client(running.connection()["broker"]) as client:
        client.publish_fold(
            submission_fold_id=31,
            submission_id=3,
            dataset="nothing",
            files={"classifier.py": DUMMY},
            train_is=[0],
            test_is=[1],
            pool="gpu",
        )

        # When the status is asked for, then the fold and what it lacks are there
        wait_until(lambda: client.status().pools == {"gpu": 1}, what="the fold")
        status = running.succeed("status")
        assert "pool gpu: 1 fold waits, and there is no worker" in status
        assert running.json("status")["queues"]["datarun.folds.gpu"]["messages"] == 1
        assert client.cancel([31]) == 1


def test_connection_file_is_for_its_owner_alone(running: Folder) -> None:
    # When a stack runs
    mode = stat.S_IMODE((running.home / "connection.toml").stat().st_mode)

    # Then nobody else reads its passwords
    assert mode == 0o600

    # And the console's login is in it as its page shows it
    (page,) = run_by(__file__, "docs/console.md")
    shown, there = tomllib.loads(page.code), running.connection()
    assert shown.keys() <= there.keys()
    pattern = re.escape(shown["management"]).replace("41967", "[0-9]+")
    assert re.fullmatch(pattern, there["management"])


def test_password_is_in_nobodys_arguments(running: Folder) -> None:
    # Given the password of the node
    password = running.connection()["password"]

    # When somebody looks at all processes
    commands = [
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    ]

    # Then it is not to be seen
    assert not any(password in command for command in commands)


def test_killed_worker_is_started_again(running: Folder) -> None:
    # Given a stack, and the process of its folds worker
    killed = running.pids()["folds worker"]

    # When that is killed
    os.kill(killed, signal.SIGKILL)

    # Then another one takes its place, and the log says why
    def successor() -> bool:
        workers = running.json("status")["workers"]
        return any(item["role"] == "folds" and item["pid"] != killed for item in workers)

    wait_until(successor, within=60, every=0.5)
    log = (running.home / "logs" / "supervisor.log").read_text(encoding="utf-8")
    assert "the folds worker was killed by SIGKILL; starting it again" in log


@pytest.mark.slow
def test_killed_node_is_started_again_with_what_waits_in_it(folder: Folder) -> None:
    # Given a stack whose workers are stopped, and folds that wait (a worker that has lost its
    # connection gives the others so long to come back)
    folder.up("--slots", "1", DATARUN_WORKER_LOST_AFTER_SECONDS="4")
    folder.publish_iris()
    folder.submission("dummy", {"classifier.py": DUMMY})
    worker = psutil.Process(folder.pids()["folds worker"])
    worker.suspend()
    submitted = folder.json("submit", "dummy", "--dataset", "iris", "--cv", "3")

    # When the node dies, and comes back
    node = next(pid for pid, command in folder.processes().items() if "beam.smp" in command)
    os.kill(node, signal.SIGKILL)
    log = folder.home / "logs" / "supervisor.log"
    wait_until(lambda: "RabbitMQ is running again" in log.read_text(encoding="utf-8"), within=60)
    worker.resume()

    # Then each fold is tested
    def tested() -> bool:
        folds = folder.json("folds", "list", "--submission", str(submitted["submission_id"]))
        return [fold["state"] for fold in folds] == ["TESTED"] * 3

    wait_until(tested, within=60, every=0.5)


@pytest.mark.slow
def test_given_broker_is_used_and_left_alone(folder: Folder, vhost: Vhost) -> None:
    # Given a RabbitMQ that somebody else runs
    # When a stack is started with it
    up = folder.up("--slots", "1", DATARUN_BROKER=vhost.admin_url)

    # Then no other one is started, and clients find this one
    assert set(up["pids"]) == {"collector", "prepare worker", "folds worker", "gateway"}
    assert not (folder.home / "rabbitmq").exists()
    assert len(folder.json("status")["workers"]) == 2

    # And it is there when the stack is gone
    folder.succeed("down")
    stopped = folder.run("status")
    assert f"the stack of {folder.home} is not running; `datarun up` starts it" in stopped.stderr
    assert folder.json("broker", "setup", DATARUN_BROKER=vhost.admin_url)["queues"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_stack_leaves_nothing_running_and_is_found_as_it_was(folder: Folder) -> None:
    # Given a stack with results
    folder.up("--slots", "1")
    folder.publish_iris()
    folder.submission("dummy", {"classifier.py": DUMMY})
    folder.json("submit", "dummy", "--dataset", "iris", "--cv", "3", "--wait")
    before = folder.json("results", "new")

    # When its supervisor is killed without warning
    os.kill(folder.connection()["supervisor"], signal.SIGKILL)

    # Then nothing of it survives, and clients are told what happened
    wait_until_nothing_is_left(folder.path)
    away = folder.run("status")
    assert away.returncode == 1
    assert "names a stack that no longer runs; start it again with `datarun up`" in away.stderr

    # And the next one has its results; also when all of it was killed in one blow
    folder.up("--slots", "1")
    assert folder.json("results", "new") == before
    for pid in folder.processes():
        with suppress(ProcessLookupError):  # it may have died of the one before
            os.kill(pid, signal.SIGKILL)
    wait_until_nothing_is_left(folder.path)
    folder.up("--slots", "1")
    assert folder.json("results", "new") == before

    # And it works
    again = folder.json("submit", "dummy", "--dataset", "iris", "--cv", "3", "--wait")
    assert again["tested"] == 3

    # And down leaves nothing, neither
    assert folder.json("down")["was_running"] is True
    assert processes_of(folder.path) == {}
    assert not (folder.home / "connection.toml").exists()
    assert "Traceback" not in (folder.home / "logs" / "supervisor.log").read_text(encoding="utf-8")
