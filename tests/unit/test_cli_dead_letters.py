"""Which login `datarun dead-letters` uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from datarun.cli.dead_letters import operators_url

CONNECTION = """\
broker = "amqp://producer:secret@127.0.0.1:5673/%2F"
user = "admin"
password = "a/b@c"
"""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a running stack, in this folder."""
    home = tmp_path / ".datarun"
    home.mkdir()
    (home / "connection.toml").write_text(CONNECTION, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("DATARUN_HOME", "DATARUN_BROKER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("stack")
def test_in_a_running_stack_it_is_the_consoles_not_the_producers() -> None:
    assert operators_url(None) == "amqp://admin:a%2Fb%40c@127.0.0.1:5673/%2F"


@pytest.mark.usefixtures("stack")
def test_a_broker_that_is_named_goes_before_it() -> None:
    assert operators_url("amqp://olga:x@elsewhere/v") == "amqp://olga:x@elsewhere/v"
