"""What a submission is called, as its folds' messages say."""

from __future__ import annotations

import pytest

from schemas.requests import FoldsReply, FoldsRequest
from tests.support import messages as m
from tests.support.store import Store


def names(store: Store) -> dict[int, str | None]:
    """Fold id -> what its submission is called."""
    reply = store.ask(FoldsRequest())
    assert isinstance(reply, FoldsReply)
    return {fold.submission_fold_id: fold.submission_name for fold in reply.folds}


def test_name_is_shown_with_each_fold_and_result_of_the_submission(store: Store) -> None:
    # Given a submission of which one message says the name, and one without any
    store.take(
        m.fold(11, "r1", submission_name="forest"),
        m.fold(12, "r2"),
        m.fold(21, "r3", submission_id=2),
    )

    # When its folds are listed, then both have it
    assert names(store) == {11: "forest", 12: "forest", 21: None}
    store.take(m.success("r2", 12))
    assert store.record(12).submission_name == "forest"


@pytest.mark.parametrize("together", [True, False])
def test_later_name_replaces_the_former_and_none_keeps_it(store: Store, together: bool) -> None:
    batch = [
        m.fold(11, submission_name="forest"),
        m.fold(12, submission_name="trees"),
        m.fold(13),
    ]
    if together:
        store.take(*batch)
    else:
        for envelope in batch:
            store.take(envelope)

    assert set(names(store).values()) == {"trees"}


def test_name_moves_no_cursor_and_can_be_stored() -> None:
    message = m.fold_message(submission_name="for\x1b[2Jest\0\ud800")
    assert message.submission_name == "for\ufffd[2Jest\ufffd\ufffd"
