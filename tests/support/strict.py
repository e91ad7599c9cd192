"""Tests that need isolation level `strict`: skipped where the host does not allow it, or failed."""

from __future__ import annotations

import os

import pytest

from consumer.sandbox.levels import strict_obstacle, strongest
from schemas.states import Isolation

REQUIRED = "DATARUN_TEST_REQUIRE_STRICT"
"""Set to 1 where the level has to hold: then nothing is skipped."""


def require_strict() -> None:
    """Skip the test, or fail it, where strict does not hold."""
    obstacle = strict_obstacle()
    if obstacle is None:
        return
    reason = f"isolation strict does not hold on this host: {obstacle}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def strict_if_required() -> Isolation:
    """The strongest level that the host allows; fails where that has to be strict."""
    level = strongest()
    if level is not Isolation.STRICT and os.environ.get(REQUIRED) == "1":
        pytest.fail(f"isolation strict does not hold on this host: {strict_obstacle()}")
    return level
