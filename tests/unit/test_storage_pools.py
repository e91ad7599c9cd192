"""Pools: which one a fold waits in, and what becomes of it when that has no queue."""

from __future__ import annotations

from dataclasses import replace

from broker.dead_letters import DeadLetter
from schemas.requests import StatusReply, StatusRequest
from schemas.states import FoldState
from tests.support import messages as m
from tests.support.store import Store


def test_a_fold_waits_in_the_pool_of_its_routing_key(store: Store) -> None:
    # Given a fold pasted by hand, whose pool its routing key alone says
    store.take(m.from_client(m.fold_message(), "folds.gpu"))

    # Then who asks for the status is told that it waits there
    status = store.ask(StatusRequest())
    assert isinstance(status, StatusReply)
    assert status.pools == {"gpu": 1}


def test_a_fold_of_a_pool_without_queue_fails_with_the_pools_name(store: Store) -> None:
    store.unknown_pools = frozenset({"gpu"})

    store.take(m.fold(run_id="r1", pool="gpu"))

    record = store.record()
    assert record.state is FoldState.ERROR
    assert record.verdict is not None
    assert "'gpu'" in record.verdict.message
    assert [exchange for exchange, _ in store.published()] == ["datarun.results", "datarun.dead"]


def test_a_refused_fold_is_run_when_its_dead_letter_is_sent_again(store: Store) -> None:
    # Given a fold that was refused, since its pool had no queue
    store.unknown_pools = frozenset({"gpu"})
    refused = m.fold(run_id="r1", pool="gpu")
    store.take(refused)

    # When the pool is there, and its dead letter is sent again
    store.unknown_pools = frozenset()
    letter = DeadLetter(replace(refused, exchange="datarun.dead"), tag=1)
    again = replace(letter.replayed(), exchange="datarun.work")
    store.take(again)

    # Then it is the fold's run, and needs no force
    run = store.run(again.run_id)
    assert (run["generation"], run["state"], run["standing"]) == (2, "TODO", "current")

    # And a second letter with that id changes nothing once the fold has run
    store.take(m.success(again.run_id))
    other = replace(letter.replayed(refused.body + b" "), exchange="datarun.work")
    store.take(other)
    assert store.record().run_id == again.run_id
