"""Submitting folds over REST: accepted once, pinned to a version, run again by force."""

from __future__ import annotations

import json

import numpy as np
import pytest

from schemas.control import RunCancelled
from schemas.files import decoded
from schemas.messages import FoldMessage
from schemas.states import Priority
from storage.gateway_models import WaitingFold
from storage.models import RunRow
from tests.support import messages
from tests.support.rest import CLASSIFIER, TEST_IS, TRAIN_IS, Rest, packed, packed_rows

OTHER = "class Classifier:\n    other = True\n"


def test_accepted_fold_is_todo_at_once_and_its_message_waits_beside_it(rest: Rest) -> None:
    # Given a data set that is split
    raw_data_id = rest.ready()

    # When a fold is posted
    fold = rest.first_fold(raw_data_id)

    # Then it is TODO with all fields, the same when it is asked for
    assert (fold["state"], fold["new"], fold["priority"]) == ("TODO", True, "L")
    assert rest.get("submissionfold/11/").json() == fold
    listed = rest.get("submissionfold/").json()
    assert listed == [{name: value for name, value in fold.items() if name != "files"}]
    assert rest.get("submissionfold-light/").json() == [
        {"databoard_sf_id": 11, "databoard_s": 1, "state": "TODO", "new": True}
    ]

    # And its message, whose id is the task's, is pinned to the version
    (message,) = rest.published(FoldMessage)
    (exchange, _), *_ = rest.store.published(FoldMessage)
    assert exchange == "datarun.work"
    assert message.dataset == f"iris@{fold['version']}"
    assert decoded(message.files) == {"classifier.py": CLASSIFIER.encode()}
    assert message.train_is.to_numpy().tolist() == TRAIN_IS
    assert message.uploader == "olga"
    assert rest.store.run(fold["task_id"])["state"] == "TODO"


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (packed_rows([5, 2, 9]), [5, 2, 9]),
        ([5, 2, 9], [5, 2, 9]),
        ("[5, 2, 9]", [5, 2, 9]),
        ("5 2\n9", [5, 2, 9]),
    ],
)
def test_indices_are_taken_packed_as_lists_and_as_text(
    rest: Rest, given: object, rows: list[int]
) -> None:
    # When a fold is posted with indices in that form
    rest.first_fold(rest.ready(), train_is=given)

    # Then they are stored, and come back packed or as a list
    assert rest.get("submissionfold/11/?format=json").json()["train_is"] == rows
    assert rest.get("submissionfold/11/").json()["train_is"] != rows
    (message,) = rest.published(FoldMessage)
    assert message.train_is.to_numpy().tolist() == rows


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"train_is": []}, "train_is: indices are empty"),
        ({"train_is": packed_rows([1, 1])}, "train_is: index 1 is repeated"),
        ({"test_is": [-1]}, "test_is: index -1 is negative"),
        ({"train_is": [True, False]}, "train_is"),
        ({"test_is": [2**80]}, "test_is"),
        ({"train_is": "hgjhg"}, "train_is: 'hgjhg' is neither"),
        # Text on which a careless pattern would spend hours.
        ({"train_is": " " * 5000 + "x"}, "is neither"),
        ({"train_is": packed(b"1234567")}, "no array of int64"),
        ({"train_is": packed_rows(np.arange(99))[:-8]}, "zlib data"),
        ({"files": {"classifier.py": packed(CLASSIFIER)[:-8]}}, "zlib data"),
        ({"files": {"a/b.py": "x"}}, "plain file name"),
        ({"files": {"big.py": packed(b"x" * (9 << 20))}}, "8388608 bytes"),
        ({"priority": "urgent"}, "priority"),
        ({"force": "everything"}, "'everything' cannot be forced"),
        ({"databoard_sf_id": -1}, "databoard_sf_id"),
        ({"databoard_sf_id": 2**63}, "databoard_sf_id"),
        ({"databoard_s_id": None}, "databoard_s_id"),
    ],
)
def test_body_that_is_not_what_is_described_is_answered_with_a_sentence(
    rest: Rest, fields: dict[str, object], sentence: str
) -> None:
    # Given a fold that is right but for one field
    raw_data_id = rest.ready()
    given = {"raw_data": raw_data_id, "files": {"classifier.py": CLASSIFIER}, **fields}

    # When it is posted, then the sentence names what is wrong, and nothing is stored
    answer = rest.fold(**given)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert rest.count(RunRow) == 0


@pytest.mark.parametrize(
    ("given", "priority"),
    [("L", Priority.L), ("low", Priority.L), ("H", Priority.H), ("high", Priority.H)],
)
def test_priority_reaches_the_queue(rest: Rest, given: str, priority: Priority) -> None:
    # When a fold is posted with a priority
    rest.first_fold(rest.ready(), priority=given)

    # Then its message has that of AMQP
    (message,) = rest.published(FoldMessage)
    assert message.priority is priority


def test_later_folds_inherit_files_and_data_set(rest: Rest) -> None:
    # Given a submission's first fold
    rest.first_fold(rest.ready(), 11)

    # When another one is posted without files, and one with the same files, packed otherwise
    assert rest.fold(12).status_code == 201
    assert rest.fold(13, files={"classifier.py": CLASSIFIER}).status_code == 201

    # Then their messages have them
    first, *later = rest.published(FoldMessage)
    for message in later:
        assert (message.files, message.dataset) == (first.files, first.dataset)


def test_unknown_submission_needs_files_and_data_set(rest: Rest) -> None:
    # Given a data set
    raw_data_id = rest.ready()

    # When a first fold lacks something, then a sentence says so, and it is no failure of ours
    for fields in ({}, {"raw_data": raw_data_id}, {"files": {"classifier.py": CLASSIFIER}}):
        answer = rest.fold(**fields)
        assert answer.status_code == 400
        assert "the submission 1 is not known" in answer.json()["detail"]
    answer = rest.fold(raw_data=7, files={"classifier.py": CLASSIFIER})
    assert answer.status_code == 404


def test_existing_fold_without_force_is_refused(rest: Rest) -> None:
    # Given a fold
    raw_data_id = rest.ready()
    fold = rest.first_fold(raw_data_id)

    # When it is posted again, also with force for the submission alone
    for fields in ({}, {"force": None}, {"force": "submission", "files": {"a.py": OTHER}}):
        answer = rest.fold(**fields)

        # Then it is refused, and nothing has changed
        assert answer.status_code == 400
        assert "submission_fold" in answer.json()["detail"]
    assert rest.get("submissionfold/11/").json() == fold
    assert len(rest.published(FoldMessage)) == 1
    assert rest.fold(12).json()["files"] == fold["files"]


def test_other_files_of_a_known_submission_need_force(rest: Rest) -> None:
    # Given a submission with two folds
    raw_data_id = rest.ready()
    rest.first_fold(raw_data_id, 11)
    untouched = rest.get("submissionfold/11/").json()

    # When a fold comes with other files, then it is refused
    other = {"classifier.py": packed(OTHER)}
    for force in (None, "submission_fold"):
        assert rest.fold(12, files=other, force=force).status_code == 409

    # When they are to replace the former ones, then later folds get them, and no fold is lost
    assert rest.fold(12, files=other, force="submission").status_code == 201
    assert rest.fold(13).status_code == 201
    assert rest.get("submissionfold/11/").json() == untouched
    assert [decoded(message.files)["classifier.py"] for message in rest.published(FoldMessage)] == [
        CLASSIFIER.encode(),
        OTHER.encode(),
        OTHER.encode(),
    ]


def test_forced_fold_runs_again_and_the_one_that_runs_is_cancelled(rest: Rest) -> None:
    # Given a fold that runs
    first = rest.first_fold(rest.ready())
    rest.collect()
    rest.store.take(messages.started(first["task_id"]))

    # When it is forced
    answer = rest.fold(force="submission_fold")

    # Then the former run is to be stopped, and another one is TODO
    assert answer.status_code == 201
    second = answer.json()
    assert second["task_id"] != first["task_id"]
    assert [message.run_id for message in rest.published(RunCancelled)] == [first["task_id"]]
    assert rest.store.run(first["task_id"])["standing"] == "superseded"
    assert rest.store.run(second["task_id"])["generation"] == 2

    # And what the former one still says does not count
    rest.collect()
    rest.finish(first)
    assert rest.get("submissionfold/11/").json()["state"] == "TODO"
    rest.finish(second)
    assert rest.get("submissionfold/11/").json()["state"] == "TESTED"


def test_force_for_both_runs_the_fold_with_other_files(rest: Rest) -> None:
    # Given a fold
    rest.first_fold(rest.ready())

    # When it is forced together with its submission
    answer = rest.fold(files={"classifier.py": OTHER}, force="submission, submission_fold")

    # Then it runs with those files
    assert answer.status_code == 201
    assert decoded(rest.published(FoldMessage)[-1].files) == {"classifier.py": OTHER.encode()}


def test_fold_of_a_data_set_that_nobody_has_split_waits_for_the_first_split(rest: Rest) -> None:
    # Given a data set that is only registered, and folds for it
    raw_data_id = rest.register()
    fold = rest.first_fold(raw_data_id)
    assert (fold["state"], fold["version"]) == ("TODO", None)
    assert rest.published(FoldMessage) == []

    # When it is split
    version = rest.prepare(rest.split(raw_data_id))

    # Then the fold is published, pinned to the version
    (message,) = rest.published(FoldMessage)
    assert message.dataset == f"iris@{version}"
    assert rest.get("submissionfold/11/").json()["version"] == version
    assert rest.count(WaitingFold) == 0
    rest.collect()
    rest.finish(fold)
    assert rest.get("submissionfold/11/").json()["state"] == "TESTED"


def test_fold_keeps_the_split_that_was_asked_for_before_it(rest: Rest) -> None:
    # Given a data set that is split, and is being split otherwise
    raw_data_id = rest.register()
    first_version = rest.prepare(rest.split(raw_data_id, 0.4))
    before = rest.first_fold(raw_data_id, 11)
    second_split = rest.split(raw_data_id, 0.5)

    # When a fold is accepted meanwhile
    meanwhile = rest.fold(12).json()

    # Then it waits for the later split, and the one before stays with the former
    assert (before["version"], meanwhile["version"]) == (first_version, None)
    second_version = rest.prepare(second_split, columns=("a", "b"))
    assert second_version != first_version
    datasets = {
        message.submission_fold_id: message.dataset for message in rest.published(FoldMessage)
    }
    assert datasets == {11: f"iris@{first_version}", 12: f"iris@{second_version}"}


def test_fold_of_a_data_set_that_cannot_be_split_fails_whenever_it_came(rest: Rest) -> None:
    # Given a fold that waits for a split which fails
    raw_data_id = rest.register()
    rest.first_fold(raw_data_id, 11)
    task_id = rest.split(raw_data_id)
    rest.collect()
    rest.store.take(messages.data_failed(task_id))
    rest.prepare_nothing()

    # When another one comes after it has failed
    rest.fold(12)

    # Then both have a verdict that says so, as databoard looks for it
    for fold_id in (11, 12):
        fold = rest.get(f"submissionfold/{fold_id}/").json()
        assert fold["state"] == "ERROR"
        assert "could not be split" in fold["log_messages"]
        assert fold["log_messages"].endswith("ERROR(split data)")
    assert rest.published(FoldMessage) == []


def test_waiting_fold_that_is_forced_runs_once(rest: Rest) -> None:
    # Given a fold that waits, forced to run again
    raw_data_id = rest.register()
    rest.first_fold(raw_data_id)
    forced = rest.fold(force="submission_fold").json()

    # When its data set is split
    rest.prepare(rest.split(raw_data_id))

    # Then only the later run is published
    (message,) = rest.published(FoldMessage)
    assert message.submission_fold_id == 11
    (envelope,) = [item for item in rest.outgoing() if item.type == FoldMessage.TYPE]
    assert envelope.message_id == forced["task_id"]


def test_fold_of_another_submission_is_a_conflict(rest: Rest) -> None:
    raw_data_id = rest.ready()
    rest.first_fold(raw_data_id)
    files = {"classifier.py": CLASSIFIER}
    answer = rest.fold(databoard_s_id=2, raw_data=raw_data_id, files=files, force="submission_fold")
    assert answer.status_code == 409
    assert "belongs to submission 1" in answer.json()["detail"]


def test_other_data_set_for_a_known_submission_needs_force(rest: Rest) -> None:
    rest.first_fold(rest.ready("iris"))
    wine = rest.ready("wine")
    assert rest.fold(12, raw_data=wine).status_code == 409
    assert rest.fold(12, raw_data=wine, force="submission").status_code == 201
    assert rest.fold(13).json()["raw_data"] == wine


def test_fold_of_a_pool_without_a_queue_is_failed_by_the_collector(rest: Rest) -> None:
    # Given an installation without a queue for the pool
    fold = rest.first_fold(rest.ready())
    rest.store.unknown_pools = frozenset({"default"})

    # When the message comes to the collector
    rest.collect()

    # Then the fold does not stay TODO
    assert rest.get("submissionfold/11/").json()["state"] == "ERROR"
    assert "has no queue" in json.loads(rest.store.run(fold["task_id"])["verdict"])["message"]


def test_unknown_fold_is_not_found(rest: Rest) -> None:
    answer = rest.get("submissionfold/77/")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "there is no fold with id 77"}
    assert rest.get("submissionfold/eleven/").status_code == 422


def test_list_is_complete_and_has_pages(rest: Rest) -> None:
    # Given more folds than are read at a time
    rest.first_fold(rest.ready(), 1_000)
    ids = list(range(1, 251))
    for fold_id in ids:
        rest.fold(fold_id, train_is=TRAIN_IS, test_is=TEST_IS)

    # When they are listed, then all are there, in order
    everything = [fold["databoard_sf_id"] for fold in rest.get("submissionfold/").json()]
    assert everything == [*ids, 1_000]
    assert len(rest.get("submissionfold-light/").json()) == 251

    # And pages are parts of that list
    for path in ("submissionfold/", "submissionfold-light/"):
        answer = rest.get(f"{path}?limit=220&offset=20")
        assert [fold["databoard_sf_id"] for fold in answer.json()] == everything[20:240]
    assert answer.headers["X-Total-Count"] == "251"
    assert rest.get("submissionfold/?offset=300").json() == []
    assert rest.get("submissionfold/?limit=0").status_code == 422
