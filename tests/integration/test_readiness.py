"""Declaring the topology at a RabbitMQ that does not get anywhere."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from datarun.up import readiness
from datarun.up.readiness import declare_shared_topology
from schemas.errors import TopologyError
from schemas.settings import Settings


@pytest.fixture
def silent_url() -> Iterator[str]:
    """Of a server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/"


def test_nobody_waits_for_ever(silent_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "DECLARE_SECONDS", -29.5)

    with pytest.raises(TopologyError, match="has not brought up its queues"):
        declare_shared_topology(silent_url, Settings(connect_timeout_seconds=30))


def test_whoever_no_longer_wants_it_does_not_wait(silent_url: str) -> None:
    began = time.monotonic()

    declare_shared_topology(
        silent_url, Settings(connect_timeout_seconds=30), is_given_up=lambda: True
    )

    assert time.monotonic() - began < 10
