"""Those who come at the same moment share transactions, and nobody gets another one's outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from gateway.together import MOST, Together
from schemas.errors import DatabaseAway, StorageError


async def _until_waiting(together: Together[int, int] | Together[str, str], count: int) -> None:
    async with asyncio.timeout(30):
        while together.waiting != count:
            await asyncio.sleep(0.001)


async def test_items_that_wait_are_written_together_and_each_gets_its_own_outcome() -> None:
    # Given a write that is under way, while many others come
    groups: list[list[int]] = []
    go_on = threading.Event()

    def write(items: Sequence[int]) -> list[int | Exception]:
        groups.append(list(items))
        assert go_on.wait(30)
        return [-item if item % 10 else ValueError(item) for item in items]

    together: Together[int, int] = Together(write)
    first = asyncio.create_task(together.run(1))
    async with asyncio.timeout(30):
        while not groups:
            await asyncio.sleep(0.001)
    others = {item: asyncio.create_task(together.run(item)) for item in range(2, MOST * 2)}
    await _until_waiting(together, len(others))

    # When it ends
    go_on.set()

    # Then the others are written in few groups, each once, with its own outcome or error
    assert await first == -1
    for item, task in others.items():
        if item % 10:
            assert await task == -item
        else:
            with pytest.raises(ValueError, match=str(item)):
                await task
    assert sorted(item for group in groups for item in group) == list(range(1, MOST * 2))
    assert len(groups) == 3

    # And who comes afterwards is served, too
    assert await together.run(3) == -3


async def test_item_that_the_database_refuses_fails_alone() -> None:
    # Given three that come at once, one of which no database takes
    def write(items: Sequence[str]) -> list[str | Exception]:
        if "bad" in items:
            raise StorageError("refused")
        return list(items)

    together: Together[str, str] = Together(write)

    # When they are written
    good, bad, better = await asyncio.gather(
        *(together.run(item) for item in ("good", "bad", "better")), return_exceptions=True
    )

    # Then the others are stored
    assert (good, better) == ("good", "better")
    assert isinstance(bad, StorageError)


async def test_database_that_is_away_is_told_to_all_and_asked_once() -> None:
    # Given a database that is away
    calls: list[int] = []

    def write(items: Sequence[int]) -> list[int | Exception]:
        calls.append(len(items))
        raise DatabaseAway("away")

    together: Together[int, int] = Together(write)

    # When two write at once, then both hear of it
    told = await asyncio.gather(together.run(1), together.run(2), return_exceptions=True)
    assert all(isinstance(error, DatabaseAway) for error in told)
    assert calls == [2]


async def test_database_that_goes_away_while_each_goes_alone_is_asked_no_more() -> None:
    # Given three of which one is refused, and a database that is away after the first
    calls: list[Sequence[str]] = []

    def write(items: Sequence[str]) -> list[str | Exception]:
        calls.append(items)
        if len(items) > 1:
            raise StorageError("refused")
        if len(calls) > 2:
            raise DatabaseAway("away")
        return list(items)

    together: Together[str, str] = Together(write)

    # When they are written
    first, *others = await asyncio.gather(
        *(together.run(item) for item in ("good", "bad", "better")), return_exceptions=True
    )

    # Then the first is stored, and the others need not wait for it one by one
    assert first == "good"
    assert all(isinstance(error, DatabaseAway) for error in others)
    assert len(calls) == 3


async def test_who_gives_up_waiting_does_not_keep_others_from_their_outcome() -> None:
    # Given two who wait to be written
    go_on = threading.Event()

    def write(items: Sequence[int]) -> list[int | Exception]:
        assert go_on.wait(30)
        return list(items)

    together: Together[int, int] = Together(write)
    impatient, patient = (asyncio.create_task(together.run(item)) for item in (1, 2))
    await asyncio.sleep(0)

    # When one of them is cancelled, then the other gets its own
    impatient.cancel()
    go_on.set()
    assert await patient == 2
    assert impatient.cancelled()
