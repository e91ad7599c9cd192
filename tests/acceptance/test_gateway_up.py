"""The gateway as part of `datarun up`, and its users."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.command import Folder, given
from tests.support.rabbitmq import Vhost


def listed(gateway: dict[str, Any], user: str | None = None, password: str | None = None) -> int:
    """Status of a list of data sets, asked for by that user, else by the first one.

    As programs of 2016 wrote it: the URL, which ends in a slash, and `/runapp/`.
    """
    auth = (user or gateway["username"], password or gateway["password"])
    return requests.get(f"{gateway['url']}/runapp/rawdata/", auth=auth, timeout=30).status_code


@pytest.mark.slow
def test_first_up_prints_a_password_once_and_the_next_one_keeps_it(
    folder: Folder, vhost: Vhost
) -> None:
    # When a stack is started for the first time
    first = folder.run("up", "--detach", "--slots", "1", **given(vhost, folder.path))

    # Then the password is printed, and works
    assert first.returncode == 0, first.stderr
    printed = re.search(r"REST user (\S+), password (\S+)", first.stderr)
    assert printed is not None, first.stderr
    gateway = folder.json("status")["gateway"]
    assert printed.groups() == (gateway["username"], gateway["password"])
    assert listed(gateway) == 200
    for name in ("connection.toml", "gateway.json"):
        assert stat.S_IMODE((folder.home / name).stat().st_mode) == 0o600

    # And it is in no log
    logs = "".join(log.read_text(encoding="utf-8") for log in folder.home.glob("logs/*.log"))
    assert gateway["password"] not in logs

    # When users come and go, then they are let in, and are not
    added = folder.json("users", "add", "olga")
    assert listed(gateway, "olga", added["password"]) == 200
    changed = folder.json("users", "passwd", "olga")
    assert listed(gateway, "olga", added["password"]) == 401
    assert listed(gateway, "olga", changed["password"]) == 200
    assert [(user["username"], user["role"]) for user in folder.json("users", "list")] == [
        ("datarun", "admin"),
        ("olga", "user"),
    ]
    folder.succeed("users", "remove", "olga")
    assert listed(gateway, "olga", changed["password"]) == 401
    for arguments in (("add", "datarun"), ("remove", "olga"), ("passwd", "olga"), ("add", "a:b")):
        refused = folder.run("users", *arguments)
        assert refused.returncode == 1
        assert "user" in refused.stderr

    # And when the first one's password is changed, and the stack started again
    renewed = folder.json("users", "passwd", "datarun")
    assert folder.json("status")["gateway"] == {**gateway, "password": renewed["password"]}
    folder.succeed("down")
    second = folder.run("up", "--detach", "--slots", "1", **given(vhost, folder.path))

    # Then it is not printed again, and the gateway is where it was
    assert second.returncode == 0, second.stderr
    assert renewed["password"] not in second.stderr
    again = folder.json("status")["gateway"]
    assert again == {**gateway, "password": renewed["password"]}
    assert listed(again) == 200


def test_users_of_no_stack_are_refused_and_leave_no_database(tmp_path: Path) -> None:
    # Given a folder without a stack, here or above
    folder = Folder(tmp_path)

    # When a user is added there
    done = folder.run("users", "add", "zoe")

    # Then that is said, and nothing is made
    assert done.returncode == 1
    assert "there is no stack here" in done.stderr
    assert "start one with `datarun up`" in done.stderr
    assert not folder.home.exists()
