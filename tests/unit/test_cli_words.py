"""What the command line says: ages, and arguments by the names they are typed with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from datarun.cli.arguments import as_typed
from datarun.cli.console import ago


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (-5, "0 s ago"),
        (0, "0 s ago"),
        (119, "119 s ago"),
        (320, "5 min ago"),
        (7190, "119 min ago"),
        (7210, "2 h ago"),
        (3 * 86_400 + 10, "3 days ago"),
    ],
)
def test_ages_are_in_the_unit_that_fits(passed: float, text: str):
    assert ago(datetime.now(UTC) - timedelta(seconds=passed)) == text


def test_arguments_are_named_as_they_are_typed():
    assert as_typed("target_column: there is none") == "--target: there is none"
    assert as_typed("limits: wall_seconds: too small") == "--wall-seconds: too small"
    assert as_typed("the target_column: is odd") == "the target_column: is odd"
    assert as_typed("no such file") == "no such file"
