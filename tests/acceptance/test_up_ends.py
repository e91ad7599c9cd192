"""How `datarun up` ends, on Ctrl-C or since it cannot start: what it says, and nothing is left."""

from __future__ import annotations

import signal

import pytest

from tests.support.command import Folder, given, processes_of, wait_until_nothing_is_left
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost


@pytest.mark.slow
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


@pytest.mark.slow
def test_ctrl_c_says_how_long_it_waits_for_running_folds(folder: Folder, vhost: Vhost) -> None:
    # Given a stack in the foreground, with a fold that goes on for minutes
    command = folder.start("up", "--slots", "1", **given(vhost, folder.path))
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


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--detach"]], ids=["attached", "detached"])
def test_interrupted_while_it_starts_leaves_nothing(folder: Folder, option: list[str]) -> None:
    # Given a stack that is not yet ready
    command = folder.start("up", *option)
    wait_until(lambda: (folder.home / "rabbitmq").exists(), within=30)

    # When whoever waits for it gives up
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)

    # Then nothing is left
    assert command.returncode == 130, errors
    assert "Traceback" not in errors
    wait_until_nothing_is_left(folder.path, within=5)


def test_store_that_is_a_missing_folder_is_said_at_once(folder: Folder, vhost: Vhost) -> None:
    # Given a shared folder that is not mounted
    settings = {**given(vhost, folder.path), "DATARUN_BLOBS": f"file://{folder.path}/away"}

    # When a stack is started
    done = folder.run("up", "--detach", **settings)

    # Then it does not start, and says why
    assert done.returncode == 1
    assert f"{folder.path}/away is not a folder; make it, or mount the disk" in done.stderr
    assert "Traceback" not in done.stderr


def test_database_that_cannot_be_used_makes_up_fail_with_the_reason(
    folder: Folder, vhost: Vhost
) -> None:
    # Given a database of a kind that datarun does not know
    # When a stack is started with it
    done = folder.run(
        "up",
        "--detach",
        DATARUN_BROKER=vhost.admin_url,
        DATARUN_DATABASE="mysql://127.0.0.1/x",
    )

    # Then the reason is shown, and nothing is left running
    assert done.returncode == 1
    assert "databases of kind 'mysql' are not supported" in done.stderr
    assert processes_of(folder.path) == {}


SLEEPY = """\
import time


class Classifier:
    def fit(self, X, y):
        time.sleep(600)
"""
