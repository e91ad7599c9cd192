"""A pulse is a file that is touched, and gone when its service ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from broker.pulse import Pulse, seconds_since
from schemas.errors import ConfigurationError


def test_a_pulse_has_an_age_as_long_as_its_service_runs(tmp_path: Path):
    file = tmp_path / "new" / "pulse"
    with Pulse(file) as pulse:
        assert seconds_since(file) is None
        pulse.beat()
        os.utime(file, (time.time() - 100, time.time() - 100))
        assert 99 < (seconds_since(file) or 0) < 200
        pulse.beat()
        assert (seconds_since(file) or 100) < 60
    assert seconds_since(file) is None


def test_what_a_killed_service_has_left_says_nothing_of_the_next_one(tmp_path: Path):
    file = tmp_path / "pulse"
    file.touch()
    with Pulse(file):
        assert seconds_since(file) is None


def test_a_pulse_that_cannot_be_written_is_said_at_the_start(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="DATARUN_PULSE"), Pulse(tmp_path / "file" / "x"):
        raise AssertionError("it has started")


def test_without_a_file_nothing_is_written():
    with Pulse(None) as pulse:
        pulse.beat()
