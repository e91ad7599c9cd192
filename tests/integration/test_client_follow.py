"""Following folds, what is new, and cross-validation."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import numpy as np
import pytest

from broker.blobs import CHUNK_BYTES
from datarun import Client, FoldMessage, FoldState, MessageError, Result
from schemas.arrays import Array
from schemas.errors import CollectorUnreachable, RequestError
from schemas.messages import AcknowledgeMessage, CancelMessage
from schemas.requests import FoldRecord, ResultsRequest
from schemas.topology import RESULTS
from schemas.wire import PART_CHARACTERS, Envelope
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost
from tests.support.scripted_collector import (
    VERSION,
    ScriptedCollector,
    a_record,
    a_verdict,
    declared_once,
    fold_arguments,
    wait_for,
)

__all__ = ["declared_once"]


def test_results_already_there_come_first_then_the_others_as_they_are_stored(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    # Given three stored verdicts and one fold that is running
    for fold_id in (11, 12, 13):
        scripted_collector.records[fold_id] = a_record(fold_id)

    with Client(broker_url) as client:
        following = client.follow([14, 11, 12, 13], timeout=20)
        # Then the stored ones come at once, over several pages
        there = list(itertools.islice(following, 3))
        assert [result.submission_fold_id for result in there] == [11, 12, 13]

        # When the last one is stored
        scripted_collector.store(a_record(14))

        # Then it comes, and following ends
        assert [result.submission_fold_id for result in following] == [14]


def test_a_result_has_everything_that_is_known_of_the_fold(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    scripted_collector.records[11] = a_record(11)
    with Client(broker_url) as client:
        (result,) = client.follow([11], timeout=20)

    assert (result.submission_fold_id, result.submission_id) == (11, 1)
    assert (result.dataset, result.version) == ("iris", VERSION)
    assert (result.state, result.verdict, result.log_messages) == (FoldState.TESTED, None, "")
    assert result.full_train_predictions is not None
    assert result.full_train_predictions.shape == (6, 2)
    np.testing.assert_array_equal(result.test_predictions, [[0.25, 0.75]] * 3)
    assert result.valid_scores == {"accuracy": 0.511}
    assert result.test_scores == {"accuracy": 0.75}
    assert (result.train_time, result.train_memory) == (0.5, 2048)
    assert (result.validation_time, result.test_time, result.test_memory) == (None, None, None)
    assert (result.train_cpu_time, result.test_cpu_time) == (None, None)
    assert result.classes is not None
    assert result.classes.tolist() == ["a", "b"]
    assert result.new
    assert "fold 11 on iris@" in repr(result)


def test_a_failed_fold_has_its_verdict_and_no_predictions(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    scripted_collector.records[11] = a_record(
        11,
        state=FoldState.ERROR,
        verdict=a_verdict("ValueError: no"),
        log_messages="ValueError: no\nERROR(train)",
        full_train_predictions=None,
        test_predictions=None,
    )
    with Client(broker_url) as client:
        (result,) = client.follow([11], timeout=20)

    assert result.state is FoldState.ERROR
    assert result.verdict is not None
    assert result.verdict.message == "ValueError: no"
    assert result.log_messages.endswith("ERROR(train)")
    assert result.full_train_predictions is None
    assert result.test_predictions is None


def test_predictions_too_large_for_one_message_are_put_together(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    # Given 20 MB of predictions, stored in parts
    predictions = np.random.default_rng(1).random((5 * CHUNK_BYTES // 2,))
    array, texts = Array.of(predictions).split(PART_CHARACTERS)
    assert len(texts) > 3
    scripted_collector.records[11] = a_record(11, full_train_predictions=array)
    scripted_collector.parts["run-11", "full_train_predictions"] = texts

    with Client(broker_url) as client:
        (result,) = client.follow([11], timeout=60)

    # Then they are one array, also after the client is closed
    np.testing.assert_array_equal(result.full_train_predictions, predictions)


def test_a_timeout_names_the_missing_folds_and_what_keeps_them(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    scripted_collector.records[11] = a_record(11)
    with Client(broker_url) as client:
        client.publish_fold(**fold_arguments(12))
        got: list[int] = []
        with pytest.raises(TimeoutError) as caught:
            got.extend(
                result.submission_fold_id for result in client.follow([11, 12, 13], timeout=0.5)
            )

    text = str(caught.value)
    assert "no verdict within 0.5 s for submission_fold_id 12, 13" in text
    assert "1 TODO" in text
    assert "1 unknown to the collector" in text
    assert "no worker takes folds of pool 'default'" in text


def test_following_without_a_collector_says_so(broker_url: str) -> None:
    with (
        Client(broker_url, timeout=0.5) as client,
        pytest.raises(CollectorUnreachable, match="datarun collector"),
    ):
        list(client.follow([1], timeout=60))


def test_following_nothing_ends_at_once(broker_url: str) -> None:
    with Client(broker_url) as client:
        assert list(client.follow([], timeout=60)) == []


def test_a_verdict_whose_announcement_was_lost_is_asked_for(
    scripted_collector: ScriptedCollector, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.following.ASK_AGAIN_SECONDS", 0.2)
    with Client(broker_url) as client:
        following = client.follow([11], timeout=20)
        results: list[Result] = []
        thread = threading.Thread(target=lambda: results.extend(following))
        thread.start()
        wait_for(scripted_collector, ResultsRequest)
        # When a verdict is stored without a word
        scripted_collector.records[11] = a_record(11)
        thread.join(20)

    assert [result.submission_fold_id for result in results] == [11]


def test_a_fold_run_again_by_force_is_followed_to_its_new_result(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    # Given a fold with a stored verdict, and a collector that starts its new run on arrival,
    # behind everything that was published before
    scripted_collector.records[11] = a_record(11, "old-run")

    def begin(message: FoldMessage, run_id: str) -> FoldRecord | None:
        del scripted_collector.records[message.submission_fold_id]
        return None

    scripted_collector.on_fold = begin
    with Client(broker_url) as client:
        # When it is published again and followed at once
        run_id = client.publish_fold(**fold_arguments(11, force=True))
        following = client.follow([11], timeout=20)
        threading.Timer(0.3, lambda: scripted_collector.store(a_record(11, run_id))).start()

        # Then the former result is not taken for the new one
        assert [result.run_id for result in following] == [run_id]


def test_two_threads_follow_the_same_folds_and_each_sees_all(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    # Given two threads that follow 120 folds with one client
    ids = range(120)
    seen: list[list[int]] = [[], []]
    with Client(broker_url) as client:

        def follow(into: list[int]) -> None:
            into.extend(result.submission_fold_id for result in client.follow(ids, timeout=60))

        threads = [threading.Thread(target=follow, args=(into,)) for into in seen]
        for thread in threads:
            thread.start()
        wait_for(scripted_collector, ResultsRequest, 2)

        # When verdicts are stored, while a third thread publishes
        client.publish_folds(fold_arguments(1000 + number) for number in range(100))
        for fold_id in ids:
            scripted_collector.store(a_record(fold_id))
        for thread in threads:
            thread.join(60)

    # Then each has seen each fold once
    assert [sorted(into) for into in seen] == [list(ids), list(ids)]


def test_abandoning_a_follow_deletes_its_queue(
    scripted_collector: ScriptedCollector, broker_url: str, declared: Vhost
) -> None:
    scripted_collector.records[11] = a_record(11)
    with Client(broker_url) as client:
        for _ in client.follow([11, 12], timeout=60):
            break
        wait_until(lambda: _subscribers(declared) == 0, what="the subscription's queue to go")


def _subscribers(vhost: Vhost) -> int:
    bindings = vhost.api("GET", f"/api/bindings/{vhost.name}").json()
    return sum(binding["source"] == RESULTS for binding in bindings)


def test_new_results_drain_over_all_pages_also_those_from_before_this_client(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    # Given five results, one of them acknowledged long ago, one of another data set
    for fold_id in range(5):
        scripted_collector.records[fold_id] = a_record(fold_id, new=fold_id != 3)
    scripted_collector.records[9] = a_record(9, dataset="digits")

    with Client(broker_url) as client:
        # Then reading without acknowledging ends, and shows the same again next time
        for _ in range(2):
            ids = [result.submission_fold_id for result in client.new_results(dataset="iris")]
            assert ids == [0, 1, 2, 4]

        # When each is acknowledged
        for result in client.new_results(dataset="iris"):
            result.acknowledge()
            assert not result.new

        # Then only the other data set's is new
        assert [result.submission_fold_id for result in client.new_results()] == [9]
    assert len(scripted_collector.messages(AcknowledgeMessage)) == 4


def test_many_results_are_acknowledged_at_once(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    for fold_id in range(5):
        scripted_collector.records[fold_id] = a_record(fold_id)
    with Client(broker_url) as client:
        assert client.acknowledge(client.new_results()) == 5
        assert list(client.new_results()) == []
    assert len(scripted_collector.messages(AcknowledgeMessage)) == 1


def test_following_what_is_new_goes_on_with_what_comes(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    scripted_collector.records[1] = a_record(1)
    with Client(broker_url) as client:
        following = client.new_results(dataset="iris", follow=True, timeout=60)
        assert next(following).submission_fold_id == 1

        # When a verdict is stored for another data set, then one for this
        scripted_collector.store(a_record(8, dataset="digits"))
        scripted_collector.store(a_record(2))

        # Then the second one comes, and what was seen does not come again
        assert next(following).submission_fold_id == 2
        following.close()  # type: ignore[attr-defined]


def test_following_what_is_new_ends_after_its_time(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    with Client(broker_url) as client:
        assert list(client.new_results(follow=True, timeout=0.3)) == []


def test_cross_validation_publishes_every_fold_and_reports(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    # Given workers that take 3 folds at once
    scripted_collector.on_fold = lambda message, run_id: a_record(
        message.submission_fold_id, run_id, submission_id=message.submission_id
    )
    seen: list[int] = []

    with Client(broker_url) as client:
        report = client.cross_validate(
            {"classifier.py": "class Classifier: ...\n"},
            dataset="iris",
            cv=3,
            priority="H",
            timeout=60,
            on_result=lambda result: seen.append(result.submission_fold_id),
        )

    # Then each fold trained on the rows that are not its test rows
    folds = scripted_collector.messages(FoldMessage)
    for message in folds:
        rows = [*message.train_is.to_numpy(), *message.test_is.to_numpy()]
        assert sorted(rows) == list(range(6))
    # And the report has one row a fold, in order
    assert report.submission_id == 7
    assert report.dataset == f"iris@{VERSION}"
    assert list(report.to_frame()["submission_fold_id"]) == [70, 71, 72]
    assert sorted(seen) == [70, 71, 72]


def test_cross_validation_on_an_unknown_data_set_publishes_nothing(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    with Client(broker_url) as client, pytest.raises(RequestError, match="'nowhere' is not known"):
        client.cross_validate({"classifier.py": ""}, dataset="nowhere", cv=3)
    assert scripted_collector.messages(FoldMessage) == []


def test_cancel_and_listings_reach_the_collector(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    with Client(broker_url) as client:
        client.publish_folds(fold_arguments(number) for number in range(5))
        assert client.cancel([np.int64(1), 2]) == 2
        assert [item.name for item in client.datasets()] == ["iris"]
        assert client.datasets("nowhere") == ()
        assert [item.submission_fold_id for item in client.folds()] == [0, 1, 2, 3, 4]
        assert [item.submission_fold_id for item in client.folds(limit=3)] == [0, 1, 2]
        assert [item.submission_fold_id for item in client.folds([3, 4])] == [3, 4]

        # And the last ones, counted
        for most, ids in ((1, [4]), (2, [3, 4]), (4, [1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])):
            last, count = client.last_folds(most)
            assert [item.submission_fold_id for item in last] == ids
            assert count == 5
        assert client.status().database == "sqlite"
    (cancelled,) = scripted_collector.messages(CancelMessage)
    assert cancelled.submission_fold_ids == (1, 2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda client: list(client.new_results(dataset="no spaces")), "dataset"),
        (lambda client: client.datasets("no spaces"), "name"),
        (lambda client: list(client.follow(["11"], timeout=1)), "'11' is not an integer"),
        (lambda client: list(client.follow([-1], timeout=1)), "submission_fold_ids"),
        (lambda client: client.cancel([1.5]), "1.5 is not an integer"),
        (lambda client: list(client.folds(state="DONE")), "state"),
        (lambda client: client.cross_validate({"a.py": ""}, "iris", cv=1), "cv"),
    ],
)
def test_a_wrong_argument_is_a_value_error_that_names_it(
    broker_url: str, call: Callable[[Client], object], says: str
) -> None:
    with Client(broker_url) as client, pytest.raises(MessageError, match=says):
        call(client)


def test_a_request_nobody_waits_for_any_more_expires(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    # Given a collector that is away when a client asks
    scripted_collector.stop()
    with Client(broker_url, timeout=0.3) as client, pytest.raises(CollectorUnreachable):
        client.status()

    # When it comes back later, then it has nothing to answer
    scripted_collector.start()
    with Client(broker_url) as client:
        client.datasets()
    kinds = {envelope.type for envelope, _ in _requests(scripted_collector)}
    assert kinds == {"datarun.datasets-request.v1"}


def _requests(collector: ScriptedCollector) -> list[tuple[Envelope, object]]:
    return [(envelope, message) for envelope, message in collector.received if envelope.reply_to]
