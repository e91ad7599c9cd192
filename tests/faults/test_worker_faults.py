"""The folds worker when processes die and lines break: exactly one final event that counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schemas.events import FoldStarted, FoldTested
from schemas.permissions import BrokerUser
from schemas.topology import folds_queue
from tests.support.deadline import wait_until
from tests.support.tcp_proxy import TcpProxy
from tests.support.worker_rig import POOL, QUICK, UNIFORM, WorkerRig, rig

__all__ = ["rig"]

TWO_SECONDS = UNIFORM.format(sleep=2)

Proxy = Callable[[int], TcpProxy]


def test_worker_killed_in_training_and_another_one_finishes(rig: WorkerRig):
    # Given two workers, one of which trains a fold
    rig.announce()
    workers = [rig.worker(), rig.worker()]
    rig.fold(1, TWO_SECONDS)
    started = rig.wait_for(FoldStarted, 1)
    (victim,) = (worker for worker in workers if worker.name == started.worker)

    # When that one is killed without warning
    victim.kill()

    # Then the other one runs it, as another attempt of the same run
    tested = rig.wait_for(FoldTested, 1)
    assert tested.run_id == started.run_id
    assert tested.attempt_id != started.attempt_id
    assert tested.worker != started.worker
    rig.wait_empty()
    assert rig.story(1).count("FoldTested") == 1


def test_connection_cut_in_training_does_not_run_the_fold_twice(rig: WorkerRig, proxy: Proxy):
    # Given a fold in training on a worker behind a line that can be cut
    rig.announce()
    line = proxy(rig.vhost.node.amqp_port)
    worker = rig.worker(logins=rig.vhost.logins.through(line.port))
    rig.fold(1, TWO_SECONDS)
    started = rig.wait_for(FoldStarted, 1)

    # When the line breaks and the fold is back in its queue
    line.cut()
    wait_until(lambda: rig.depth(folds_queue(POOL)) == 1)
    line.mend()

    # Then the same attempt ends, once, and its redelivered message is settled
    tested = rig.wait_for(FoldTested, 1)
    assert tested.attempt_id == started.attempt_id
    rig.fold(2, QUICK)
    rig.wait_for(FoldTested, 2)
    assert worker.says("reconnected") is True
    rig.wait_empty()
    assert (rig.attempts(1), rig.story(1).count("FoldTested")) == (1, 1)


@pytest.mark.slow
def test_redelivered_to_another_slot_of_the_same_worker_is_adopted(rig: WorkerRig, proxy: Proxy):
    # Given a worker with two slots, one of which trains
    rig.announce()
    line = proxy(rig.vhost.node.amqp_port)
    rig.worker(slots=2, logins=rig.vhost.logins.through(line.port))
    rig.fold(1, UNIFORM.format(sleep=8))
    rig.wait_for(FoldStarted, 1)

    # When the line is reset, so that the idle slot receives the fold that the other one runs
    line.reset()

    # Then both slots go on being of use: another fold runs to its end meanwhile
    rig.fold(2, QUICK)
    rig.wait_for(FoldTested, 2)
    assert not rig.of(FoldTested, 1)
    rig.wait_for(FoldTested, 1)
    rig.wait_empty()
    assert rig.attempts(1) == 1


def test_redelivered_to_another_worker_waits_for_the_one_that_runs_it(rig: WorkerRig, proxy: Proxy):
    # Given two workers behind lines that can be cut, one of which trains
    rig.announce()
    lines = [proxy(rig.vhost.node.amqp_port) for _ in range(2)]
    workers = [
        rig.worker(logins=rig.vhost.logins.through(line.port), worker_lost_after_seconds=20)
        for line in lines
    ]
    rig.fold(1, UNIFORM.format(sleep=4))
    started = rig.wait_for(FoldStarted, 1)
    trains = [worker.name for worker in workers].index(started.worker)
    # The other one, which has only just become ready, hears one of three.
    for _ in range(3):
        rig.wait_for_heartbeat(started.worker, of=started.run_id)

    # When its line is cut, so that the broker hands the fold to the other one
    lines[trains].cut()
    wait_until(lambda: workers[1 - trains].says("fold_runs_elsewhere"))
    lines[trains].mend()

    # Then that one does not run it, and drops it when its verdict is stored
    tested = rig.wait_for(FoldTested, 1)
    assert tested.attempt_id == started.attempt_id
    rig.wait_empty()
    assert rig.attempts(1) == 1


def test_broker_closing_all_connections_loses_no_fold_of_a_full_queue(rig: WorkerRig):
    # Given two workers on thirty folds
    rig.announce()
    workers = [rig.worker(slots=2), rig.worker(slots=2)]
    for fold_id in range(30):
        rig.fold(fold_id, UNIFORM.format(sleep=0.1))
    rig.wait_for(FoldTested)

    # When the broker closes every connection in between
    rig.disconnect()
    wait_until(lambda: len(rig.vhost.connections(BrokerUser.WORKER)) >= 2)
    rig.vhost.close_connections()
    rig.reconnect()

    # Then each fold is tested, both workers are back, and nothing is left
    wait_until(lambda: len({e.submission_fold_id for e in rig.of(FoldTested)}) == 30)
    wait_until(lambda: all(worker.says("reconnected") for worker in workers))
    rig.wait_empty()
