"""Requests that come at the same moment: one of them wins, and none breaks."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, Event, Thread

import httpx2 as httpx

from schemas.errors import DatabaseAway
from schemas.messages import DataMessage, FoldMessage
from storage.engine import transaction
from storage.gateway_models import RawData
from storage.models import RunRow
from storage.users import UserRole, add_user
from tests.support.rest import CLASSIFIER, IRIS, Rest

THREADS = 8


def at_once(ask: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    """The answers to so many calls, made at the same moment."""
    start = Barrier(THREADS)

    def call(number: int) -> httpx.Response:
        start.wait(30)
        return ask(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(call, range(THREADS)))


def test_one_fold_that_is_posted_by_many_at_once_is_accepted_once(rest: Rest) -> None:
    # Given a data set
    raw_data_id = rest.ready()

    # When the same fold is posted by many
    files = {"classifier.py": CLASSIFIER}
    answers = at_once(lambda _: rest.fold(11, raw_data=raw_data_id, files=files))

    # Then one of them is told that it is accepted
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: THREADS - 1}
    assert rest.count(RunRow) == 1
    assert len(rest.published(FoldMessage)) == 1


def test_folds_of_one_new_submission_that_come_at_once_are_all_accepted(rest: Rest) -> None:
    # Given a data set
    raw_data_id = rest.ready()

    # When the folds of a submission come at the same moment, while the collector is at work
    files = {"classifier.py": CLASSIFIER}

    collecting = Event()
    ended = Event()

    def collect() -> None:
        # As the collector does: what a transaction of the gateway has overtaken is done again.
        while not ended.is_set():
            with suppress(DatabaseAway):
                rest.store.prepare_iris(uuid.uuid4().hex)
                collecting.set()

    collector = Thread(target=collect)
    collector.start()
    assert collecting.wait(30)
    answers = at_once(lambda number: rest.fold(number, raw_data=raw_data_id, files=files))
    ended.set()
    collector.join(30)

    # Then each is accepted
    assert [answer.status_code for answer in answers] == [201] * THREADS
    assert rest.count(RunRow) == THREADS


def test_one_name_that_is_registered_by_many_at_once_is_theirs_who_was_first(rest: Rest) -> None:
    # When the same name is registered by many users, and then split by one many times
    users = [f"user-{number}" for number in range(THREADS)]
    with transaction(rest.store.engine) as connection:
        for user in users:
            add_user(connection, user, f"{user}'s password", UserRole.USER)

    def register(number: int) -> httpx.Response:
        return rest.post(
            "rawdata/",
            user=users[number],
            name="iris",
            target_column="species",
            workflow_elements="classifier",
            files={"a.csv": IRIS},
        )

    answers = at_once(register)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: THREADS - 1}
    assert rest.count(RawData) == 1
    first = users[[answer.status_code for answer in answers].index(201)]
    split = {"raw_data_id": 1, "held_out_test": 0.4, "random_state": 1}
    splits = at_once(lambda _: rest.post("rawdata/split/", user=first, **split))

    # Then there is one data set, and one split
    assert {answer.status_code for answer in splits} == {200}
    assert len({answer.json()["task_id"] for answer in splits}) == 1
    assert len(rest.published(DataMessage)) == 1
