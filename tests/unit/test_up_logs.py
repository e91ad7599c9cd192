"""Logs of services that run for months."""

from __future__ import annotations

from pathlib import Path

import pytest

from datarun.up import service
from datarun.up.service import ServiceProcess
from datarun.up.services import COLLECTOR


def test_a_long_log_is_put_aside_while_its_service_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service whose log is longer than it may be
    monkeypatch.setattr(service, "MAX_LOG_BYTES", 100)
    log = tmp_path / "collector.log"
    process = ServiceProcess(COLLECTOR, {}, log)
    with log.open("ab", buffering=0) as held:
        held.write(b"old\n" * 30)

        # When it is looked at, again and again, and the service goes on
        for _ in range(3):
            process.put_long_log_aside()
            held.write(b"new\n")

    # Then what is old is kept beside it
    assert log.read_bytes() == b"new\n" * 3
    assert log.with_suffix(".log.1").read_bytes() == b"old\n" * 30
    assert process.log_tail() == "new\n" * 2 + "new"
