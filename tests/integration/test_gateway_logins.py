"""Whoever guesses passwords keeps nobody from being served."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest
import requests

from gateway import login_turns
from storage.engine import open_engine, transaction
from storage.users import UserRole, add_user
from tests.support.deadline import wait_until
from tests.support.rest import Rest
from tests.support.stack import RestClient, Stack

GUESSERS = 48
"""More than there are threads in the gateway."""


@contextmanager
def guessing(client: RestClient, name: Callable[[int], str]) -> Iterator[list[int]]:
    """So many who guess, again and again; the statuses of their answers. Ends the gateway."""
    statuses: list[int] = []
    ended = Event()
    numbers = itertools.count()

    def guess(_: int) -> None:
        while not ended.is_set():
            number = next(numbers)
            auth = (name(number), f"wrong {number}")
            try:
                answer = requests.get(f"{client.url}runapp/rawdata/", auth=auth, timeout=250)
            except requests.ConnectionError:
                return
            statuses.append(answer.status_code)

    with ThreadPoolExecutor(GUESSERS) as pool:
        done = [pool.submit(guess, number) for number in range(GUESSERS)]
        try:
            wait_until(lambda: len(statuses) >= 4, what="answers to guesses")
            yield statuses
        finally:
            ended.set()
            client.service.kill()
    for each in done:
        each.result()


def test_user_who_is_known_is_served_while_somebody_guesses_passwords(bare_stack: Stack) -> None:
    # Given a user who has been let in, and a flood of wrong passwords for his name
    client = bare_stack.start_gateway()
    assert client.get("rawdata/").ok
    with guessing(client, lambda _: client.auth[0]) as statuses:
        # When he asks ten times
        before = len(statuses)
        for _ in range(10):
            assert client.get("rawdata/").ok

        # Then he was answered before all who guess were, once
        assert len(statuses) - before < GUESSERS
    assert set(statuses) == {401}


@pytest.mark.parametrize("whose", ["another user's", "made up"])
def test_first_login_does_not_wait_behind_wrong_passwords_of_other_names(
    bare_stack: Stack, whose: str
) -> None:
    # Given a user who has not been let in yet, and a flood of wrong passwords for other names
    client = bare_stack.start_gateway()
    engine = open_engine(bare_stack.database_url)
    with transaction(engine) as connection:
        add_user(connection, "otto", "otto's password", UserRole.USER)
    engine.dispose()
    name = client.auth[0] if whose == "another user's" else "nobody-{}"
    with guessing(client, name.format) as statuses:
        # When he logs in
        before = len(statuses)
        auth = ("otto", "otto's password")
        answer = requests.get(f"{client.url}runapp/rawdata/", auth=auth, timeout=60)

        # Then he is let in after few of the guesses that were there before him
        assert answer.status_code == 200
        assert len(statuses) - before < GUESSERS // 4


def guessed(rest: Rest, names: list[str]) -> set[int]:
    """The statuses of wrong logins that come at the same moment."""

    def guess(name: str) -> int:
        answer = rest.client.get("/runapp/rawdata/", auth=(name, "wrong"))
        assert answer.json()["detail"]
        assert (answer.headers.get("Retry-After") is not None) == (answer.status_code == 503)
        return answer.status_code

    with ThreadPoolExecutor(len(names)) as pool:
        waiting: list[Future[int]] = [pool.submit(guess, name) for name in names]
        return {future.result() for future in waiting}


@pytest.mark.parametrize("name", ["otto", "nobody"])
def test_logins_of_one_name_are_no_more_than_can_be_checked(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Given a gateway in which few logins of one name may wait
    monkeypatch.setattr(login_turns, "MOST_WAITING", 2)

    # When many come at the same moment, then some are told to come again, the others that they are
    # wrong, whether there is such a user or not
    assert guessed(rest, [name] * 8) == {401, 503}

    # And nothing is left of it
    auth = ("otto", "otto's password")
    assert rest.client.get("/runapp/rawdata/", auth=auth).status_code == 200


@pytest.mark.parametrize("most", [1024, 3])
def test_flood_of_made_up_names_does_not_tell_which_names_exist(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    # Given a gateway in which few logins may wait
    monkeypatch.setattr(login_turns, "MOST_WAITING", 2)
    monkeypatch.setattr(login_turns, "MOST_MADE_UP", most)

    # When more come at the same moment, of made up names and of a user's
    names = [f"nobody-{number}" for number in range(6)]

    # Then all are answered alike
    assert guessed(rest, [*names, "otto"]) == {401}


def test_many_first_requests_of_one_user_are_all_served(bare_stack: Stack) -> None:
    # Given a gateway that has just been started
    client = bare_stack.start_gateway()

    # When a hundred clients ask with the same login at the same moment
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: client.get("rawdata/"), range(100)))

    # Then each is served
    assert {answer.status_code for answer in answers} == {200}
