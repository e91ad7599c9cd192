"""The gateway's port: the one that was asked for, else the same each time; and what is said when it
is taken."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest

from tests.support.command import Folder, processes_of
from tests.support.rabbitmq import Vhost


def port_of(document: dict[str, dict[str, str]]) -> int:
    """Where the gateway of a stack answers."""
    port = urlsplit(document["gateway"]["url"]).port
    assert port is not None
    return port


@pytest.mark.slow
def test_taken_port_is_said_and_the_former_one_is_kept(folder: Folder, vhost: Vhost) -> None:
    # Given a stack that was started once, with a port of its own
    with socket.create_server(("127.0.0.1", 0)) as spare:
        former = spare.getsockname()[1]
    broker = {"DATARUN_BROKER": vhost.admin_url}
    document = folder.up("--slots", "1", "--gateway-port", str(former), **broker)
    assert port_of(document) == former
    folder.succeed("down")

    # When it is to have a port that somebody else listens on
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = folder.run("up", "--detach", "--gateway-port", str(port), **broker)

    # Then that is said in one sentence, and nothing is left running
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: the gateway cannot listen on 127.0.0.1:{port}")
    assert "DATARUN_GATEWAY_PORT" in line
    assert processes_of(folder.path) == {}

    # When the one that it had is taken, too
    with socket.create_server(("127.0.0.1", former)):
        started = folder.run("up", "--detach", "--slots", "1", **broker)

    # Then it has another one, and says so
    assert started.returncode == 0, started.stderr
    assert f"port {former}, which the gateway had before, is taken" in started.stderr
    gateway = folder.json("status")["gateway"]
    assert gateway["url"] not in {f"http://127.0.0.1:{former}/", f"http://127.0.0.1:{port}/"}

    # And a person is told where it is, but not the password
    status = folder.succeed("status")
    assert f"REST: {gateway['url']}, described at {gateway['url']}docs" in status
    assert gateway["password"] not in status

    # When the former one is free again, then it has that
    folder.succeed("down")
    assert port_of(folder.up("--slots", "1", **broker)) == former


@pytest.mark.slow
def test_only_this_runs_log_is_shown_when_a_service_cannot_start(
    folder: Folder, vhost: Vhost
) -> None:
    # Given a cache that no worker can use
    (folder.path / "file").touch()
    settings = {
        "DATARUN_BROKER": vhost.admin_url,
        "DATARUN_CACHE": str(folder.path / "file" / "cache"),
    }

    # When a stack is started with it, twice
    first, second = (folder.run("up", "--detach", "--slots", "1", **settings) for _ in range(2))

    # Then each time the end of that run's log is shown, and of that run's alone
    for done in (first, second):
        assert done.returncode == 1
        # (what it says before, such as which other services run by then, is a race)
        _, told, log = done.stderr.partition("ended with exit status 1; the end of its log")
        assert told
        assert log.count("[Errno 20] Not a directory") == 1
    assert processes_of(folder.path) == {}

    # And nothing that failed is remembered as the gateway's port
    assert json.loads((folder.home / "gateway.json").read_text("utf-8"))["port"] is None
