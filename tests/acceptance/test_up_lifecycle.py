"""`datarun up` from its first process to its last, and once more after all were killed."""

from __future__ import annotations

import os
import signal
import stat
from contextlib import suppress

import psutil
import pytest

from tests.support.command import Folder, processes_of, wait_until_nothing_is_left
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost


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
    up = below.run("up", "--detach", "--slots", "1", DATARUN_BROKER=vhost.amqp_url)
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


def test_connection_file_is_for_its_owner_alone(running: Folder) -> None:
    # When a stack runs
    mode = stat.S_IMODE((running.home / "connection.toml").stat().st_mode)

    # Then nobody else reads its passwords
    assert mode == 0o600


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


def test_killed_node_is_started_again_with_what_waits_in_it(folder: Folder) -> None:
    # Given a stack whose workers are stopped, and folds that wait
    folder.up("--slots", "1")
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


def test_given_broker_is_used_and_left_alone(folder: Folder, vhost: Vhost) -> None:
    # Given a RabbitMQ that somebody else runs
    # When a stack is started with it
    up = folder.up("--slots", "1", DATARUN_BROKER=vhost.amqp_url)

    # Then no other one is started, and clients find this one
    assert set(up["pids"]) == {"collector", "prepare worker", "folds worker", "gateway"}
    assert not (folder.home / "rabbitmq").exists()
    assert len(folder.json("status")["workers"]) == 2

    # And it is there when the stack is gone
    folder.succeed("down")
    stopped = folder.run("status")
    assert f"the stack of {folder.home} is not running; `datarun up` starts it" in stopped.stderr
    assert folder.json("broker", "setup", DATARUN_BROKER=vhost.amqp_url)["queues"]


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


def test_ctrl_c_stops_everything_in_order(folder: Folder) -> None:
    # Given a stack in the foreground
    command = folder.start("up", "--slots", "1")
    wait_until(lambda: (folder.home / "connection.toml").exists(), within=60)

    # When Ctrl-C is pressed
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)

    # Then it ends without complaint, RabbitMQ last, and nothing is left
    assert command.returncode == 0
    lines = errors.splitlines()
    assert lines[-1] == "stopped"
    assert lines.index("stopping RabbitMQ") > lines.index("stopping the collector")
    assert "Traceback" not in errors
    wait_until_nothing_is_left(folder.path, within=5)


def test_ctrl_c_says_how_long_it_waits_for_running_folds(folder: Folder) -> None:
    # Given a stack in the foreground, with a fold that goes on for minutes
    command = folder.start("up", "--slots", "1")
    wait_until(lambda: (folder.home / "connection.toml").exists(), within=60)
    folder.publish_iris()
    folder.submission("sleepy", {"classifier.py": SLEEPY})
    folder.json("submit", "sleepy", "--dataset", "iris", "--cv", "2")
    wait_until(lambda: any(w["running"] for w in folder.json("status")["workers"]), within=60)

    # When Ctrl-C is pressed, and once more after it is said what that would do
    command.send_signal(signal.SIGINT)
    assert command.stderr is not None
    said = ""
    while "Ctrl-C again" not in said:
        said = command.stderr.readline()
        assert said, "it ended without a word about running folds"
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=25)

    # Then it has said what it waited for, and has not waited
    assert said == "1 fold is running; waiting up to 30 s, Ctrl-C again to stop now\n"
    assert command.returncode == 0
    wait_until_nothing_is_left(folder.path, within=5)


def test_interrupted_while_it_starts_leaves_nothing(folder: Folder) -> None:
    # Given a detached stack that is not yet ready
    command = folder.start("up", "--detach")
    wait_until(lambda: (folder.home / "rabbitmq").exists(), within=30)

    # When whoever waits for it gives up
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)

    # Then nothing is left
    assert command.returncode in (130, -signal.SIGINT), errors
    assert "Traceback" not in errors
    wait_until_nothing_is_left(folder.path, within=5)


def test_database_that_cannot_be_used_makes_up_fail_with_the_reason(
    folder: Folder, vhost: Vhost
) -> None:
    # Given a database of a kind that datarun does not know
    # When a stack is started with it
    done = folder.run(
        "up",
        "--detach",
        DATARUN_BROKER=vhost.amqp_url,
        DATARUN_DATABASE="mysql://127.0.0.1/x",
    )

    # Then the reason is shown, and nothing is left running
    assert done.returncode == 1
    assert "databases of kind 'mysql' are not supported" in done.stderr
    assert processes_of(folder.path) == {}


DUMMY = """\
from sklearn.dummy import DummyClassifier


class Classifier(DummyClassifier):
    pass
"""
SLEEPY = """\
import time


class Classifier:
    def fit(self, X, y):
        time.sleep(600)
"""
