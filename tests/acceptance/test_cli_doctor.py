"""`datarun doctor`: whether strict isolation holds, seen by a fold that tries what it must not."""

from __future__ import annotations

import json
import os
import shlex

import pytest

from consumer.sandbox.levels import strict_obstacle
from datarun.doctor.protections import protections
from tests.support.command import Folder
from tests.support.pages import run_by


@pytest.mark.skipif(strict_obstacle() is not None, reason=f"strict: {strict_obstacle()}")
def test_doctor_finds_every_protection_on(folder: Folder) -> None:
    # When the page's command is typed, here by a program
    (block,) = run_by(__file__, "docs/security.md")
    dollar, command, *words = shlex.split(block.code, comments=True)
    assert (dollar, command) == ("$", "datarun")
    document = folder.json(*words)

    # Then every protection that is required is on

    assert document["strict"] is True
    required = [each for each in document["protections"] if each["is_required"]]
    assert [each["name"] for each in required if not each["is_on"]] == []
    assert len(document["protections"]) >= 12


def test_doctor_says_what_is_missing(folder: Folder) -> None:
    # Given a host without bubblewrap, whose workers log in to RabbitMQ as an administrator
    (folder.path / "bin").mkdir()
    settings = {"PATH": str(folder.path / "bin"), "DATARUN_BROKER": "amqp://admin:sesame@host/"}

    # When it is examined
    done = folder.run("doctor", "--json", **settings)
    read = folder.run("doctor", **settings)

    # Then that is said, and what to do
    assert done.returncode == 1
    assert json.loads(done.stdout)["obstacle"] == (
        "bubblewrap is not installed: apt-get install bubblewrap"
    )
    assert json.loads(done.stdout)["broker_user"] == "admin"
    assert "logs in to RabbitMQ as 'admin'" in read.stderr
    assert "sesame" not in read.stderr + done.stdout


def test_each_open_door_is_noticed() -> None:
    # Given what a process sees that is not in a sandbox at all
    facts = {
        "uid": 0,
        "uid_map": ["0", "0", "4294967295"],
        "capabilities": {"CapEff": "000001ffffffffff", "CapPrm": "0", "CapBnd": "0"},
        "no_new_privileges": "0",
        "seccomp": "0",
        "namespaces": {
            name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")
        },
        "pids": [1, 2, 3],
        "own_pid": 3,
        "connect": "ECONNREFUSED",
        "netlink": None,
        "unshare": None,
        "ptrace": None,
        "write_usr": None,
        "write_root": None,
        "top": ["home", "usr"],
        "dev": ["null", "sda"],
        "box_bytes": 0,
        "box_files": 0,
        "environment": ["DATARUN_BROKER"],
        "descriptors": [0, 1, 2, 3, 4, 5],
        "control_groups": [],
        "limits": {"NPROC": -1, "CORE": -1, "FSIZE": -1, "NOFILE": 1024, "CPU": -1},
    }

    # Then no protection is said to be on
    assert [each.name for each in protections(facts) if each.is_on] == []
