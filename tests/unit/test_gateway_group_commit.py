"""Writes of many threads share transactions, and nobody gets another one's outcome."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.group_commit import MOST, GroupCommit
from schemas.errors import DatabaseAway, StorageError
from tests.support.deadline import wait_until


def test_items_that_wait_are_written_together_and_each_gets_its_own_outcome() -> None:
    # Given a write that is under way, while many others come
    groups: list[list[int]] = []
    first_began, go_on = threading.Event(), threading.Event()

    def write(items: Sequence[int]) -> list[int | Exception]:
        groups.append(list(items))
        if not first_began.is_set():
            first_began.set()
            assert go_on.wait(30)
        return [-item if item % 10 else ValueError(item) for item in items]

    commit: GroupCommit[int, int] = GroupCommit(write)
    with ThreadPoolExecutor(MOST * 2) as pool:
        first = pool.submit(commit.run, 1)
        assert first_began.wait(30)
        others = {item: pool.submit(commit.run, item) for item in range(2, MOST * 2)}
        wait_until(lambda: commit.waiting == len(others), what="the items that wait")

        # When it ends
        go_on.set()

        # Then the others are written in few groups, each once, with its own outcome or error
        assert first.result() == -1
        for item, future in others.items():
            if item % 10:
                assert future.result() == -item
            else:
                with pytest.raises(ValueError, match=str(item)):
                    future.result()
    assert sorted(item for group in groups for item in group) == list(range(1, MOST * 2))
    assert len(groups) <= 4


def test_item_that_the_database_refuses_fails_alone() -> None:
    # Given a write that is under way, and three items that wait, one of which no database takes
    began, go_on = threading.Event(), threading.Event()

    def write(items: Sequence[str]) -> list[str | Exception]:
        if "first" in items:
            began.set()
            assert go_on.wait(30)
        if "bad" in items:
            raise StorageError("refused")
        return list(items)

    commit: GroupCommit[str, str] = GroupCommit(write)
    with ThreadPoolExecutor(4) as pool:
        pool.submit(commit.run, "first")
        assert began.wait(30)
        good, bad, better = (pool.submit(commit.run, item) for item in ("good", "bad", "better"))
        wait_until(lambda: commit.waiting == 3, what="three items that wait")

        # When they are written, then the others are stored
        go_on.set()
        assert (good.result(), better.result()) == ("good", "better")
        with pytest.raises(StorageError, match="refused"):
            bad.result()


def test_database_that_is_away_is_told_to_all_and_asked_once() -> None:
    # Given a database that is away
    calls: list[int] = []

    def write(items: Sequence[int]) -> list[int | Exception]:
        calls.append(len(items))
        raise DatabaseAway("away")

    commit: GroupCommit[int, int] = GroupCommit(write)

    # When somebody writes, then he hears of it
    with pytest.raises(DatabaseAway):
        commit.run(1)
    assert calls == [1]
