"""A gateway process without RabbitMQ, which it does not need, and how much memory it has had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rabbitmq import Logins
from tests.support.stack import RestClient, Stack


@pytest.fixture
def bare_stack(tmp_path: Path) -> Iterator[Stack]:
    """Nothing but a database, on SQLite."""
    url = f"sqlite:///{tmp_path / 'datarun.sqlite'}"
    made = Stack(Logins.of_nobody(), url, tmp_path)
    yield made
    made.close()


def high_water(client: RestClient) -> int:
    """The most memory that its process has had since it began, in bytes."""
    status = Path(f"/proc/{client.service.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10
