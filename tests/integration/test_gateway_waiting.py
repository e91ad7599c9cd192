"""Folds that are posted before their data set is split."""

from __future__ import annotations

import pytest

from gateway.acceptance import Application, accept_folds
from gateway.bodies import SubmissionFoldPost
from gateway.submission import read_fold_request
from schemas.messages import FoldMessage
from storage.engine import transaction
from storage.gateway_models import WaitingFold
from storage.users import find_user
from tests.support.rest import CLASSIFIER, TEST_IS, TRAIN_IS, Rest

FOLDS = 60
"""More than are published in one transaction."""


def test_folds_that_have_waited_are_published_in_the_order_in_which_they_were_posted(
    rest: Rest,
) -> None:
    # Given folds that were posted before the split, not in the order of their ids
    raw_data_id = rest.register()
    posted = [(number * 37) % FOLDS for number in range(FOLDS)]
    rest.first_fold(raw_data_id, posted[0])
    for fold_id in posted[1:]:
        assert rest.fold(fold_id).status_code == 201

    # When the data set is split
    task_id = rest.split(raw_data_id)
    rest.prepare(task_id)
    rest.prepare_nothing()

    # Then they are published as they were posted
    published = [message.submission_fold_id for message in rest.published(FoldMessage)]
    assert published == posted


@pytest.mark.parametrize("shared_engine", ["postgresql"], indirect=True)
def test_fold_and_first_split_that_do_not_see_each_other_end_in_a_published_fold(
    rest: Rest,
) -> None:
    # Given a fold that is being accepted: it sees no split
    raw_data_id = rest.register()
    post = SubmissionFoldPost(
        databoard_sf_id=11,
        databoard_s_id=1,
        raw_data=raw_data_id,
        files={"classifier.py": CLASSIFIER.encode()},
        train_is=TRAIN_IS,
        test_is=TEST_IS,
    )
    with transaction(rest.engine) as connection:
        olga = find_user(connection, "olga")
        assert olga is not None
        application = Application(read_fold_request(post), olga)
        (accepted,) = accept_folds(connection, [application], "default")
        assert not isinstance(accepted, Exception)

        # When the split is asked for and committed meanwhile: it sees no fold
        task_id = rest.split(raw_data_id)

    # Then the fold is published once the data set is split, and waits no more
    assert rest.get("submissionfold/11/").json()["state"] == "TODO"
    assert rest.published(FoldMessage) == []
    version = rest.prepare(task_id)
    (message,) = rest.published(FoldMessage)
    assert (message.submission_fold_id, message.dataset) == (11, f"iris@{version}")
    assert rest.count(WaitingFold) == 0
