"""What a person and a program see when something is wrong: one sentence, and an exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.command import Folder, environment


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("data", "list"),
        ("folds", "list"),
        ("results", "new"),
        ("worker",),
        ("collector",),
        ("broker", "setup"),
    ],
    ids=" ".join,
)
def test_command_without_any_stack_says_how_to_get_one(
    folder: Folder, arguments: tuple[str, ...]
) -> None:
    # Given a folder where nothing was ever started
    # When a command needs a broker
    done = folder.run(*arguments)

    # Then one sentence says what to do, without a traceback
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        "Error: no RabbitMQ is configured: start a stack in this folder with `datarun up`"
    )
    assert "set DATARUN_BROKER=amqp://" in done.stderr
    assert "Traceback" not in done.stderr

    # And a program is told the same
    as_json = folder.run(*arguments, "--json")
    assert as_json.returncode == 1
    assert as_json.stderr == ""
    assert json.loads(as_json.stdout)["error"].startswith("no RabbitMQ is configured")


def test_broker_that_does_not_answer_is_named_without_its_password(folder: Folder) -> None:
    # Given a URL at which nobody listens
    url = "amqp://somebody:hunter2@127.0.0.1:9/"

    # When a command uses it
    done = folder.run("status", DATARUN_BROKER=url)

    # Then the place is named, and the password is not
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("up", "--nonsense"), "No such option"),
        (("submit", "here"), "Missing option '--dataset'"),
        (("folds", "show", "eleven"), "should be a valid integer"),
        (("data", "publish", "a", "a.csv", "--held-out-test", "2"), "--held-out-test: 2"),
        (("up", "--slots", "0"), "should be greater than or equal to 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_with_2(
    folder: Folder, arguments: tuple[str, ...], sentence: str
) -> None:
    # When the arguments are wrong
    done = folder.run(*arguments, "--json")

    # Then a program is told so, and the exit status is that of wrong usage
    assert done.returncode == 2
    assert sentence in json.loads(done.stdout)["error"]
    assert folder.run(*arguments).returncode == 2


def test_wrong_setting_is_named(folder: Folder) -> None:
    # When a setting in the environment makes no sense
    done = folder.run("up", DATARUN_SLOTS="many")

    # Then it is named, and nothing is started
    assert done.returncode == 1
    assert "DATARUN_SLOTS" in done.stderr
    assert folder.processes() == {}


def test_worker_refuses_to_start_where_strict_does_not_hold(folder: Folder) -> None:
    # Given a host without bubblewrap
    bin_folder = folder.path / "bin"
    bin_folder.mkdir()

    # When a worker is started, and when it is asked for strict isolation by name
    for arguments in (["worker"], ["worker", "--isolation", "strict"]):
        done = folder.run(*arguments, DATARUN_BROKER="amqp://127.0.0.1:9/", PATH=str(bin_folder))

        # Then no weaker level is taken in its place, and it says what is missing
        assert done.returncode == 1
        assert "strict does not hold on this host: bubblewrap is not installed" in done.stderr
        assert "--isolation process" in done.stderr


def test_down_where_nothing_runs_says_so(folder: Folder) -> None:
    # When a stack is stopped that was never started
    done = folder.run("down", "--json")

    # Then that is no error
    assert done.returncode == 0
    assert json.loads(done.stdout)["was_running"] is False


def test_help_needs_nothing_heavy(folder: Folder) -> None:
    # When the help is printed
    program = (
        "import sys; sys.argv = ['datarun', '--help']\n"
        "from datarun.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, *sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        cwd=folder.path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    # Then nothing was imported that takes its time
    status, *modules = done.stdout.splitlines()[-1].split(" ")
    assert status == "0"
    heavy = {"numpy", "pandas", "sklearn", "sqlalchemy", "aio_pika", "pika", "requests"}
    assert heavy.isdisjoint(modules)


HELPS = """
import sys
from datarun.cli.main import main
for command in sys.argv[1:]:
    sys.argv = ["datarun", *command.split(), "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0
    print(end="\\f")
"""


def helps(folder: Folder, *commands: str, **settings: str) -> list[str]:
    """What each command prints with --help, all in one process."""
    done = subprocess.run(
        [sys.executable, "-c", HELPS, *commands],
        env=environment(**settings),
        cwd=folder.path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split("\f")[:-1]


def test_every_command_explains_itself(folder: Folder) -> None:
    # Given every command there is
    commands = [
        *("demo", "up", "down", "status", "submit", "worker", "collector", "schema"),
        *("data publish", "data list", "data show", "folds list", "folds show", "folds cancel"),
        *("results new", "results ack", "broker setup"),
    ]

    # When its help is asked for
    for command, text in zip(commands, helps(folder, *commands), strict=True):
        # Then it is there, and --json with it
        assert f"datarun {command}" in " ".join(text.split())
        assert "--json" in text


def test_help_breaks_no_line_before_it_is_full(folder: Folder) -> None:
    # When help is shown in a terminal of 100 columns
    for text in helps(folder, "worker", "demo", "up", "collector", COLUMNS="100"):
        # Then each line ends where a sentence does
        lines = [line.strip() for line in text.partition("Options")[0].splitlines()]
        assert [line for line in lines if line and not line.endswith((".", "[OPTIONS]", "─"))] == []


def test_schema_is_one_json_document(folder: Folder) -> None:
    # When the schema is printed
    schema = json.loads(folder.succeed("schema"))

    # Then it defines the messages of the contract
    assert "datarun.fold.v1" in schema["messages"]


@pytest.mark.parametrize("command", ["schema", "--version"])
def test_output_into_a_closed_pipe_is_no_traceback(folder: Folder, command: str) -> None:
    # Given output that nobody reads any more when the command writes it, or flushes it at its end
    reader, writer = os.pipe()
    os.close(reader)

    # When the command writes
    done = subprocess.run(
        [sys.executable, "-m", "datarun", command],
        env=environment(),
        cwd=folder.path,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)

    # Then it ends quietly
    assert done.stderr == ""
    assert done.returncode == 1
