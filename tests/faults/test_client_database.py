"""The client when the collector's database goes away and comes back."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from datarun import Client, CollectorUnreachable, FoldState, HoldOut, Result
from tests.support.deadline import wait_until
from tests.support.postgres import PostgresServer
from tests.support.stack import Stack
from tests.support.submissions import DUMMY, write_iris

WITHIN = 60


def test_a_restart_of_the_database_is_not_seen_by_those_who_publish_and_follow(
    postgres_stack: Stack, postgres: PostgresServer, tmp_path: Path
) -> None:
    # Given a running stack on PostgreSQL, and a client that follows a fold
    postgres_stack.start_all()
    results: list[Result] = []
    with postgres_stack.client() as client:
        client.publish_data(
            "iris",
            files=[write_iris(tmp_path)],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=WITHIN,
        )
        following = threading.Thread(
            target=lambda: results.extend(client.follow([1], timeout=WITHIN))
        )
        following.start()

        # When the database is stopped, and the fold published while it is away
        postgres.stop()
        try:
            with postgres_stack.client(timeout=1) as impatient:
                wait_until(lambda: says_away(impatient), what="the collector to notice")
                impatient.publish_fold(
                    submission_fold_id=1,
                    submission_id=1,
                    dataset="iris",
                    files={"classifier.py": DUMMY},
                    train_is=np.arange(50),
                    test_is=np.arange(50, 75),
                )
        finally:
            postgres.start()
        following.join(WITHIN)

    # Then the fold's verdict arrives once it is back
    assert [result.state for result in results] == [FoldState.TESTED]


def says_away(client: Client) -> bool:
    """Whether the collector says, to a client with a second's patience, what it waits for."""
    try:
        client.status()
    except CollectorUnreachable:
        return True
    return False
