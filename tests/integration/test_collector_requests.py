"""What the collector answers, asked over RabbitMQ as clients ask."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from broker.blobs import write_blob
from broker.private_node import NodeAddress
from schemas.errors import RequestError
from schemas.events import RunningFold, WorkerHeartbeat
from schemas.messages import UploadMessage
from schemas.permissions import BrokerUser
from schemas.requests import (
    CrossValidateReply,
    CrossValidateRequest,
    FoldRecord,
    PartRequest,
    ResultsReply,
    ResultsRequest,
    StatusReply,
    StatusRequest,
)
from schemas.results import DatasetResult
from schemas.states import DatasetState, FoldState, Role, Visibility
from schemas.topology import EVENTS, RESULTS, WORK, blob_stream
from schemas.wire import MAX_MESSAGE_BYTES, pack, unpack
from storage.allotment import FIRST_ALLOTTED
from tests.support import messages as m
from tests.support.deadline import wait_until
from tests.support.played import Players
from tests.support.rabbitmq import new_vhost
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def players(rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Players]:
    """Clients and workers of a collector that has `iris`."""
    folder = tmp_path_factory.mktemp("collector")
    with new_vhost(rabbitmq) as vhost:
        stack = Stack(vhost.logins, f"sqlite:///{folder / 'datarun.sqlite'}", folder)
        try:
            stack.declare_topology()
            stack.start_collector()
            with Players(stack.logins) as players:
                prepare_iris(players)
                yield players
        finally:
            stack.close()


def test_labels_are_fetched_and_uploads_deleted(players: Players) -> None:
    # Given `iris`, an uploaded file, and the parts that a worker prepared of it
    # When a fold of it is tested, then it is scored, by labels that no worker of folds has
    players.publish((WORK, pack(m.fold_message(1), "folds.default", message_id="r1")))
    players.publish((EVENTS, pack(m.success("r1", 1), "fold.1")))
    (record,) = results(players, ResultsRequest(submission_fold_ids=(1,)))
    assert record.valid_scores == {"accuracy": 1.0}
    assert record.test_scores == {"accuracy": 0.75}

    # And the upload, which holds all labels, is gone
    upload = blob_stream(Visibility.RAW, "upload")
    wait_until(
        lambda: players.producer.queue_depth(upload, deadline=10) is None, what="its deletion"
    )
    kept = blob_stream(Visibility.SECRET, "a-y_test")
    assert players.producer.queue_depth(kept, deadline=10) is not None


def test_labels_that_are_not_there_fail_the_data_set(players: Players) -> None:
    # Given a worker that reports parts that it never wrote
    with players.producer.subscribe(RESULTS, ["data.#"], deadline=10) as subscription:
        players.publish((WORK, pack(m.data_message("stars"), "data", message_id="d2")))
        report = m.data_ready("d2", m.manifest("stars", blobs="missing"))
        players.publish((EVENTS, pack(report, "data.stars")))

        # Then the data set fails, and says which
        result = unpack(subscription.next(60))
    assert isinstance(result, DatasetResult)
    assert result.state is DatasetState.FAILED
    assert result.verdict is not None
    assert "y_train" in result.verdict.message


def test_pages_of_results_fit_into_messages_and_leave_nothing_out(players: Players) -> None:
    # Given results of `iris` that are far larger together than a message may be, one even alone
    random = np.random.default_rng(0)
    sizes = {101: 40_000, 102: 300_000, **dict.fromkeys(range(103, 125), 45_000)}
    for fold_id, size in sizes.items():
        fold = pack(m.fold_message(fold_id), "folds.default", message_id=f"r{fold_id}")
        players.publish((WORK, fold))
        event = m.success(f"r{fold_id}", fold_id, test_predictions=random.random((size, 2)))
        players.publish((EVENTS, pack(event, f"fold.{fold_id}")))

    # When they are asked for, page by page
    pages = 0
    found: list[FoldRecord] = []
    request = ResultsRequest(submission_fold_ids=tuple(sizes))
    while True:
        reply = players.producer.request(request, deadline=30)
        assert isinstance(reply, ResultsReply)
        assert len(reply.model_dump_json()) < MAX_MESSAGE_BYTES
        found += reply.results
        pages += 1
        if reply.cursor is None:
            break
        request = request.model_copy(update={"cursor": reply.cursor})

    # Then each is there once, and large arrays are announced in parts
    assert pages > 2
    assert [record.submission_fold_id for record in found] == sorted(sizes)
    arrays = [record.test_predictions for record in found]
    assert [array.shape[0] for array in arrays if array is not None] == [
        sizes[fold_id] for fold_id in sorted(sizes)
    ]
    assert arrays[1] is not None
    assert arrays[1].parts > 0


def test_ids_of_cross_validations_are_unique_among_clients(players: Players) -> None:
    # Given `iris`, and a fold that somebody numbered where ids are allotted
    taken = FIRST_ALLOTTED + 4
    players.publish((WORK, pack(m.fold_message(taken), "folds.default")))

    # When many ask at once
    def ask(_: int) -> CrossValidateReply:
        reply = players.producer.request(CrossValidateRequest(dataset="iris", cv=3), deadline=30)
        assert isinstance(reply, CrossValidateReply)
        return reply

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(ask, range(16)))

    # Then nobody has another one's ids, and the folds cut all rows, stratified
    ids = [fold.submission_fold_id for reply in replies for fold in reply.folds]
    assert len(set(ids)) == len(ids) == 48
    assert taken not in ids
    assert len({reply.submission_id for reply in replies}) == 16
    rows = [fold.test_is.to_numpy() for fold in replies[0].folds]
    assert sorted(np.concatenate(rows)) == list(range(m.N_TRAIN))
    assert all(sorted(m.Y_TRAIN[some]) == ["setosa", "virginica"] for some in rows)
    assert replies[0].dataset == m.manifest().reference


@pytest.mark.parametrize(
    ("dataset", "cv", "reason"),
    [
        ("nobody", 3, "nobody has published a data set 'nobody'"),
        ("iris@0123456789abcdef", 3, "has no version"),
        ("iris", 7, "as many rows"),
        ("iris", 4, "at most 3 folds"),
        ("../x", 3, "is not a data set's name"),
    ],
)
def test_a_refused_request_says_why(players: Players, dataset: str, cv: int, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        players.producer.request(CrossValidateRequest(dataset=dataset, cv=cv), deadline=30)


def test_a_part_that_is_not_there_is_refused(players: Players) -> None:
    with pytest.raises(RequestError, match="no part 3"):
        players.producer.request(
            PartRequest(run_id="r1", array="test_predictions", index=3), deadline=30
        )


def test_status_shows_workers_until_they_stop(players: Players) -> None:
    # Given a worker that runs a fold
    def beat(*, stopped: bool) -> None:
        running = RunningFold(run_id="r", submission_fold_id=1, state=FoldState.TODO, since=m.START)
        heartbeat = WorkerHeartbeat(
            worker="w1",
            role=Role.FOLDS,
            pool="default",
            host="here",
            pid=1,
            slots=2,
            running=(running,),
            stopped=stopped,
            at=m.START,
        )
        players.publish((EVENTS, pack(heartbeat, "heartbeat", persistent=False)))

    def workers() -> list[str]:
        reply = players.producer.request(StatusRequest(), deadline=30)
        assert isinstance(reply, StatusReply)
        assert reply.database == "sqlite"
        return [worker.worker for worker in reply.workers]

    beat(stopped=False)
    wait_until(lambda: workers() == ["w1"], what="the worker")

    # When it says that it stops, then it is gone
    beat(stopped=True)
    wait_until(lambda: workers() == [], what="its end")


def test_a_requester_that_is_gone_harms_nobody(players: Players) -> None:
    # Given requests whose sender has left
    gone = pack(StatusRequest(), "request", reply_to="a-queue-that-is-not-there")
    players.publish(*[(WORK, gone)] * 5)

    # Then the next one is answered
    assert isinstance(players.producer.request(StatusRequest(), deadline=30), StatusReply)


def prepare_iris(players: Players) -> None:
    """Publish `iris` with an upload, write its parts, and wait until it is ready."""
    producer, preparer = map(players.logins.of, (BrokerUser.PRODUCER, BrokerUser.PREPARER))
    with players.producer.subscribe(RESULTS, ["data.#"], deadline=10) as subscription:
        uploaded = UploadMessage(owner="d1", blobs=((Visibility.RAW, "upload"),))
        players.publish((WORK, pack(uploaded, "upload")))
        write_blob(producer, Visibility.RAW, "upload", b"length,species\n")
        players.publish((WORK, pack(m.data_message(), "data", message_id="d1")))
        for part in m.manifest().parts:
            written = UploadMessage(owner="d1", blobs=((part.visibility, part.blob),))
            players.publish((EVENTS, pack(written, "upload")))
            write_blob(preparer, part.visibility, part.blob, m.content_of(part.name))
        players.publish((EVENTS, pack(m.data_ready("d1"), "data.iris")))
        result = unpack(subscription.next(30))
    assert isinstance(result, DatasetResult)
    assert result.state is DatasetState.READY, result.verdict


def results(players: Players, request: ResultsRequest) -> tuple[FoldRecord, ...]:
    reply = players.producer.request(request, deadline=30)
    assert isinstance(reply, ResultsReply)
    return reply.results
