"""A collector that was stopped in the middle of a transaction, and another one that took over."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from schemas.errors import DatabaseAway
from schemas.states import FoldState
from storage import engine as storage_engine
from storage.engine import open_engine, transaction, upgrade
from storage.working_set import WorkingSet
from tests.support import messages as m
from tests.support.store import Store

WITHIN = 30


@pytest.fixture
def pair(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Store]]:
    """Two collectors on one PostgreSQL; SQLite lets only one begin to write."""
    monkeypatch.setattr(storage_engine, "IDLE_IN_TRANSACTION_SECONDS", 1)
    engines = [open_engine(postgres_url) for _ in range(2)]
    upgrade(engines[0])
    yield Store(engines[0]), Store(engines[1])
    for engine in engines:
        engine.dispose()


def test_what_a_paused_collector_had_read_does_not_overwrite_a_verdict(
    pair: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a fold, and a collector that stops just before it writes that the fold is TRAINED
    paused, active = pair
    active.prepare_iris()
    active.take(m.fold(11, "run-1"))
    reached, go = threading.Event(), threading.Event()
    flush = WorkingSet.flush

    def slow_flush(work: WorkingSet) -> None:
        if work.connection.engine is paused.engine:
            reached.set()
            assert go.wait(WITHIN)
        flush(work)

    monkeypatch.setattr(WorkingSet, "flush", slow_flush)
    failure: list[BaseException] = []

    def store_late() -> None:
        try:
            paused.take(m.trained("run-1"))
        except BaseException as error:  # noqa: BLE001 - looked at below
            failure.append(error)

    late = threading.Thread(target=store_late)
    late.start()
    assert reached.wait(WITHIN)

    # When the other one is given the same events, stores the verdict, and the first goes on
    active.take(m.started("run-1"), m.trained("run-1"), m.success("run-1"))
    go.set()
    late.join(WITHIN)

    # Then the verdict stands, and the first one has to look again
    assert active.record(11).state is FoldState.TESTED
    assert [type(error) for error in failure] == [DatabaseAway]
    paused.take(m.trained("run-1"))
    assert active.record(11).state is FoldState.TESTED


def test_a_collector_that_is_paused_in_a_transaction_does_not_hold_up_the_other(
    pair: tuple[Store, Store],
) -> None:
    # Given a collector that stops after it has written and before it commits
    paused, active = pair
    active.take(m.fold(11, "run-1"))

    def write_and_pause() -> None:
        with transaction(paused.engine) as connection:
            connection.execute(text("UPDATE runs SET worker = 'nobody'"))
            # When the other one writes the same row
            active.take(m.failure("run-1"))

    with pytest.raises(DatabaseAway):
        write_and_pause()

    # Then it is not kept waiting, and what the first had written is gone
    assert active.run("run-1")["worker"] == "worker-1"
    assert active.record(11).state is FoldState.ERROR
