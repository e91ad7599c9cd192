"""Who counts as dead: only who could have been heard, and was not."""

from __future__ import annotations

from schemas.events import WorkerHeartbeat
from schemas.states import Role
from storage.workers import Workers
from tests.support import messages as m


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def beat(*, stopped: bool = False) -> WorkerHeartbeat:
    return WorkerHeartbeat(
        worker="w1",
        role=Role.FOLDS,
        pool="default",
        host="here",
        pid=1,
        slots=1,
        stopped=stopped,
        at=m.START,
    )


def test_a_worker_that_falls_silent_is_dead_after_a_while() -> None:
    # Given a collector that has listened for long, and a worker
    clock = Clock()
    workers = Workers(10, clock)
    workers.listen()
    clock.now = 100
    workers.hear(beat())

    # When it says nothing more
    clock.now = 109
    assert workers.is_alive("w1")
    clock.now = 111

    # Then it is dead, as is one that was never heard
    assert not workers.is_alive("w1")
    assert not workers.is_alive("w2")
    assert workers.alive() == ()


def test_a_worker_that_says_goodbye_is_dead_at_once() -> None:
    workers = Workers(10)
    workers.listen()

    workers.hear(beat(stopped=True))

    assert not workers.is_alive("w1")


def test_a_collector_that_was_deaf_calls_nobody_dead() -> None:
    # Given a worker, and a collector that loses its connection
    clock = Clock()
    workers = Workers(10, clock)
    workers.listen()
    workers.hear(beat())

    # When the connection is back after a minute
    clock.now = 60
    workers.listen()

    # Then the worker has its time to be heard again
    assert workers.is_alive("w1")
    clock.now = 71
    assert not workers.is_alive("w1")
