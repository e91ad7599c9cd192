"""Messages that are none: stored as failures where they can be, put aside, never in a loop."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import text

from schemas.errors import DatabaseAway, StorageError
from schemas.messages import CancelMessage, UploadMessage
from schemas.requests import ErrorReply
from schemas.states import Culprit, FailureKind, FoldState, Visibility
from schemas.topology import CONTROL, DEAD, EVENTS, REASON_HEADER, RESULTS, SOURCE_HEADER, WORK
from schemas.wire import Envelope
from storage.engine import open_engine, transaction
from tests.support import messages as m
from tests.support.store import Store


@pytest.mark.parametrize(
    "body",
    [
        {"submission_fold_id": 11, "submission_id": 7, "dataset": "iris", "files": {}},
        {"submission_fold_id": 11, "train_is": [0.5], "dataset": "../../etc"},
    ],
    ids=["no indices", "float indices"],
)
def test_a_malformed_fold_message_fails_its_fold(store: Store, body: dict[str, object]) -> None:
    # Given a fold message with a readable fold id, and something wrong
    envelope = Envelope(json.dumps(body).encode(), "folds.default", WORK, message_id="r1")

    # When the collector's copy comes
    store.take(envelope)

    # Then the failure is stored as the publisher's; the worker puts the message aside
    record = store.record()
    assert record.state is FoldState.ERROR
    assert record.verdict is not None
    assert record.verdict.kind is FailureKind.REJECTED
    assert record.verdict.culprit is Culprit.PUBLISHER
    assert record.log_messages.endswith("ERROR(split data)")
    assert [exchange for exchange, _ in store.published()] == ["datarun.results"]

    # And the copy of the dead letter, and the mended message, find no obstacle
    headers = {REASON_HEADER: "bad", SOURCE_HEADER: "folds.default"}
    store.take(replace(envelope, exchange=DEAD, headers=headers))
    store.take(m.fold(run_id="r2"))
    assert store.run("r2")["standing"] == "current"
    assert store.run("r2")["generation"] == 2


def test_a_malformed_second_message_does_not_touch_the_first_run(store: Store) -> None:
    store.take(m.fold(run_id="r1"), m.started("r1"))

    store.take(Envelope(b'{"submission_fold_id": 11}', "folds.default", WORK))

    assert store.run("r1")["state"] == FoldState.TODO
    assert len(store.content()["runs"]) == 1


@pytest.mark.parametrize("body", [b"", b"not json", b"[" * 100_000, b"\xff\xfe", b"[]", b"{}"])
@pytest.mark.parametrize(
    ("exchange", "key"), [(WORK, "acknowledge"), (EVENTS, "fold.11"), (WORK, "nonsense")]
)
def test_what_nobody_else_reads_is_put_aside_with_its_reason(
    store: Store, body: bytes, exchange: str, key: str
) -> None:
    # Given rubbish where only the collector reads
    rubbish = Envelope(body, key, exchange, type="datarun.fold-tested.v1")

    # When it comes, and its dead letter's copy comes back
    store.take(rubbish)
    ((dead_exchange, dead),) = store.published()
    store.take(replace(dead, exchange=DEAD))

    # Then it is among the dead letters once
    assert dead_exchange == DEAD
    assert dead.headers[SOURCE_HEADER] == key
    assert len(store.published()) == 1


def test_an_unreadable_final_event_ends_its_fold(store: Store) -> None:
    # Given a fold, and a worker of another version whose report cannot be read
    store.take(m.fold(run_id="r1"))
    body = json.dumps({"run_id": "r1", "submission_fold_id": 11, "attempt_id": "a1"}).encode()

    # When it comes
    store.take(Envelope(body, "fold.11", EVENTS, type="datarun.fold-tested.v1"))

    # Then the fold has a verdict
    record = store.record()
    assert record.verdict is not None
    assert record.verdict.culprit is Culprit.INFRASTRUCTURE


def test_a_fold_that_a_worker_puts_aside_ends_with_the_reason(store: Store) -> None:
    # Given a fold whose message a worker refused
    envelope = m.fold(run_id="r1")
    store.take(envelope)

    # When the copy of the dead letter comes
    headers = {REASON_HEADER: "user 'eve' may not submit", SOURCE_HEADER: "folds.default"}
    store.take(replace(envelope, exchange=DEAD, headers=headers))

    # Then it is stored
    record = store.record()
    assert record.verdict is not None
    assert record.verdict.message == "rejected: user 'eve' may not submit"


def test_a_malformed_request_is_answered(store: Store) -> None:
    request = Envelope(b"{}", "request", WORK, type="datarun.part-request.v1", reply_to="q")

    applied = store.take(request)

    ((_, reply),) = applied.replies
    assert isinstance(reply, ErrorReply)
    assert "run_id" in reply.message
    assert store.published() == []


def test_a_refused_row_and_a_database_that_is_away_are_told_apart(store: Store) -> None:
    # Given a statement whose values are refused
    with (
        pytest.raises(StorageError, match="refused a row") as refused,
        transaction(store.engine) as connection,
    ):
        connection.execute(text("INSERT INTO counters (name, value) VALUES ('a', NULL)"))
    assert not isinstance(refused.value, DatabaseAway)

    # And one that no message is to blame for
    with (
        pytest.raises(DatabaseAway, match="Nothing is lost"),
        transaction(store.engine) as connection,
    ):
        connection.execute(text("SELECT * FROM missing"))


def test_a_database_that_does_not_answer_is_away() -> None:
    # Given a port where nothing listens; the password is not shown
    engine = open_engine("postgresql+psycopg://datarun:secret@127.0.0.1:1/datarun")

    with pytest.raises(DatabaseAway) as away, transaction(engine):
        pass

    assert "secret" not in str(away.value)
    assert "127.0.0.1:1/datarun" in str(away.value)


def test_a_message_counts_only_with_the_key_of_its_type(store: Store) -> None:
    # Given messages that a user with few rights publishes with the keys that he may use
    upload = UploadMessage(owner="nobody", blobs=((Visibility.SECRET, "b"),))
    cancel = CancelMessage(submission_fold_ids=(11,))
    store.take(m.fold(11, run_id="r1"))
    store.take(
        m.from_worker(upload, "fold.11"),
        m.from_client(cancel, "folds.default"),
        m.from_client(cancel, "cancelled"),
        m.from_worker(m.success("r1", 11), "upload"),
    )

    # Then none of them changes anything
    assert store.run("r1")["state"] == "TODO"
    assert [reason.rpartition("its key is ")[2] for reason in store.ignored()] == [
        "'upload'",
        "'cancel'",
        "'cancel'",
        "'fold.<name>'",
    ]


@pytest.mark.parametrize(
    ("exchange", "key"), [(RESULTS, "fold.iris.1"), (EVENTS, "heartbeat"), (CONTROL, "run")]
)
def test_what_comes_by_a_binding_that_is_not_ours_is_counted_and_not_put_aside(
    store: Store, exchange: str, key: str
) -> None:
    # Given an exchange that somebody has bound to that of work, when it brings something
    store.take(Envelope(b"{}", key, exchange, message_id="m"))

    # Then it is no dead letter, of which there would be one for each verdict
    assert store.ignored() == [f"it came by exchange {exchange!r} with key {key!r}"]
    assert store.published() == []
