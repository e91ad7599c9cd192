"""Fixtures of the tests that drive the `datarun` command."""

from tests.support.command import folder, running

__all__ = ["folder", "running"]
