"""Nothing comes of any hostile submission: as `datarun attack`, on an executor without a broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from datarun.attack.attack import Attack
from datarun.attack.catalogue import ATTACKS
from datarun.attack.runner import Runner
from schemas.states import Isolation
from tests.support.attack_ground import ExecutorGround
from tests.support.strict import require_strict


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """One executor for all: what one attack does must not matter to the next."""
    require_strict()
    folder = tmp_path_factory.mktemp("attacks")
    with closing(ExecutorGround(folder, Isolation.STRICT)) as ground:
        yield Runner(ground)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.family}-{attack.name}")
def test_nothing_comes_of(runner: Runner, attack: Attack) -> None:
    assert runner.run(attack).problems == ()
