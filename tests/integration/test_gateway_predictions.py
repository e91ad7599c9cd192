"""Collecting predictions over REST: what is new, and when it stops being so."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.messages import CancelMessage
from tests.support import messages
from tests.support.rest import TEST_IS, TRAIN_IS, Rest, unpacked


def ids(answer: object) -> list[int]:
    """The folds of a list of documents."""
    return [fold["databoard_sf_id"] for fold in answer.json()]  # type: ignore[attr-defined]


@pytest.fixture
def ended(rest: Rest) -> Rest:
    """Fold 11 is tested, 12 has failed, 13 waits, 14 was cancelled."""
    rest.first_fold(rest.ready(), 11)
    for fold_id in (12, 13, 14):
        rest.fold(fold_id)
    rest.collect()
    rest.finish(rest.get("submissionfold/11/").json())
    rest.fail(rest.get("submissionfold/12/").json())
    cancel = CancelMessage(submission_fold_ids=(14,))
    rest.store.take(messages.from_client(cancel, "cancel"))
    return rest


def test_new_predictions_are_those_of_all_folds_that_ended_also_the_failed_ones(
    ended: Rest,
) -> None:
    # When what is new is asked for
    answer = ended.post("testpredictions/new/")

    # Then every fold that has ended is there, with all fields of 2016
    assert answer.status_code == 200
    tested, failed, cancelled = answer.json()
    assert [fold["databoard_sf_id"] for fold in (tested, failed, cancelled)] == [11, 12, 14]
    assert [fold["state"] for fold in (tested, failed, cancelled)] == [
        "TESTED",
        "ERROR",
        "CANCELLED",
    ]
    assert failed["log_messages"].endswith("ERROR(train)")
    assert failed["test_predictions"] is None
    np.testing.assert_array_equal(
        unpacked(tested["full_train_predictions"], tested["shape"]["full_train_predictions"]),
        messages.PROBABILITIES,
    )
    np.testing.assert_array_equal(
        unpacked(tested["test_predictions"], tested["shape"]["test_predictions"]),
        messages.TEST_PROBABILITIES,
    )
    assert tested["dtype"] == {"full_train_predictions": "<f8", "test_predictions": "<f8"}
    assert tested["classes"] == ["setosa", "virginica"]
    for name in ("train_time", "validation_time", "test_time", "train_memory", "test_memory"):
        assert isinstance(tested[name], float)

    # And they are new no longer, while the fold that waits is
    assert ended.post("testpredictions/new/").json() == []
    light = {fold["databoard_sf_id"]: fold for fold in ended.get("submissionfold-light/").json()}
    assert [light[fold_id]["new"] for fold_id in (11, 12, 13, 14)] == [False, False, True, False]


def test_asking_too_early_hides_nothing(ended: Rest) -> None:
    # When a fold that waits is asked for, together with one that has ended and one that is unknown
    answer = ended.post("testpredictions/list/", list_submission_fold=[13, 11, 99, 11])

    # Then what has ended is returned once
    assert ids(answer) == [11]

    # And the other one is new when it has ended
    ended.finish(ended.get("submissionfold/13/").json())
    assert ids(ended.post("testpredictions/new/")) == [12, 13, 14]


def test_list_returns_what_was_returned_before(ended: Rest) -> None:
    for _ in range(2):
        assert ids(ended.post("testpredictions/list/", list_submission_fold=[11, 12])) == [11, 12]


def test_acknowledged_by_hand_stays_new_until_it_is_named(ended: Rest) -> None:
    # When results are asked for to be acknowledged by hand, then they stay new
    for _ in range(2):
        assert ids(ended.post("testpredictions/new/?acknowledge=manual")) == [11, 12, 14]
    path = "testpredictions/list/?acknowledge=manual"
    (tested,) = ended.post(path, list_submission_fold=[11]).json()

    # When they are named, by fold or by run, with one that has not ended
    answer = ended.post(
        "testpredictions/acknowledge/",
        list_submission_fold=[12, 13, 99],
        task_ids=[tested["task_id"]],
    )

    # Then those that had ended are new no longer
    assert answer.json() == {"acknowledged": 2}
    assert ids(ended.post("testpredictions/new/?acknowledge=manual")) == [14]


def test_run_that_was_forced_meanwhile_is_not_acknowledged_with_the_former_one(
    ended: Rest,
) -> None:
    # Given a result that somebody has got, and then the fold was run again
    former = ended.get("submissionfold/11/").json()
    forced = ended.fold(11, force="submission_fold").json()
    ended.finish(forced)

    # When he acknowledges what he has got
    answer = ended.post("testpredictions/acknowledge/", task_ids=[former["task_id"]])

    # Then the new result is still new
    assert answer.json() == {"acknowledged": 0}
    assert 11 in ids(ended.post("testpredictions/new/"))


def test_new_predictions_of_one_data_set(ended: Rest) -> None:
    # Given another data set, without folds
    wine = ended.ready("wine")

    # When what is new is asked for by data set
    assert ended.post("testpredictions/new/", raw_data_id=wine).json() == []
    assert ids(ended.post("testpredictions/new/", raw_data_id=None)) == [11, 12, 14]
    answer = ended.post("testpredictions/new/", raw_data_id=77)
    assert answer.status_code == 404


def test_body_of_new_may_be_missing(ended: Rest) -> None:
    auth = ("olga", "olga's password")
    answer = ended.client.post("/runapp/testpredictions/new", auth=auth)
    assert ids(answer) == [11, 12, 14]


def test_arrays_leave_as_plain_lists_when_asked_for(ended: Rest) -> None:
    # When predictions are asked for as JSON
    path = "testpredictions/list/?format=json"
    (tested,) = ended.post(path, list_submission_fold=[11]).json()
    fold = ended.get("submissionfold/11/?format=json").json()

    # Then they are lists
    assert tested["test_predictions"] == messages.TEST_PROBABILITIES.tolist()
    assert fold["full_train_predictions"] == messages.PROBABILITIES.tolist()
    assert (fold["train_is"], fold["test_is"]) == (TRAIN_IS, TEST_IS)
    assert ended.get("submissionfold/11/?format=xml").status_code == 422


@pytest.mark.parametrize("dtype", [">f4", "<i8", "|b1"])
def test_numbers_of_any_type_leave_as_little_endian_float64(rest: Rest, dtype: str) -> None:
    # Given predictions of another type
    fold = rest.first_fold(rest.ready())
    rest.collect()
    predicted = np.array([[1, 0]] * messages.N_TEST, dtype=dtype)
    train = np.array([[0, 1]] * messages.N_TRAIN, dtype=dtype)
    event = messages.success(
        fold["task_id"], full_train_predictions=train, test_predictions=predicted
    )
    rest.store.take(event)

    # When they are asked for
    (tested,) = rest.post("testpredictions/new/").json()

    # Then a client of 2016 decodes them
    assert tested["dtype"]["test_predictions"] == "<f8"
    shape = tested["shape"]["test_predictions"]
    np.testing.assert_array_equal(
        unpacked(tested["test_predictions"], shape), predicted.astype(float)
    )
