"""Where a slot's control group is made, in folders that are as version 2 shows its groups.

tests/integration/test_control_groups.py makes real ones, where it may.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer.sandbox.cgroups import Tree

BOTH = frozenset({"memory", "pids"})


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A service's group with the processes that keep it whole, below one that takes groups."""
    (tmp_path / "cgroup.subtree_control").write_text("memory")
    group = tmp_path / "datarun.service"
    group.mkdir()
    (group / "cgroup.subtree_control").mkdir()  # cannot be read or written
    for resource in BOTH:
        (group / f"{resource}.max").write_text("max\n")
    return group


def test_one_group_limits_memory_and_processes(service: Path) -> None:
    made = Tree(BOTH, True, (service, service.parent)).make("slot")

    assert made == service.parent / "slot"
    assert made.is_dir()
    assert (service.parent / "cgroup.subtree_control").read_text() == "+pids"


@pytest.mark.parametrize("resource", sorted(BOTH))
def test_a_slot_leaves_no_group_that_is_limited_in_anything(service: Path, resource: str) -> None:
    # Given an operator who has limited one of the two for the service
    (service / f"{resource}.max").write_text("100\n")

    # Then the slot stays in that group, with both
    assert Tree(BOTH, True, (service, service.parent)).make("slot") is None
    assert not (service.parent / "slot").exists()
