"""Who may use the gateway, and what each sees."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from storage.engine import transaction
from storage.users import remove_user, set_password
from tests.support import messages
from tests.support.rest import CLASSIFIER, Rest, packed

ADDRESSES = [
    ("GET", "rawdata/"),
    ("POST", "rawdata/"),
    ("POST", "rawdata/split/"),
    ("POST", "rawdata/customsplit/"),
    ("GET", "submissionfold/"),
    ("POST", "submissionfold/"),
    ("GET", "submissionfold/11/"),
    ("GET", "submissionfold-light/"),
    ("POST", "testpredictions/list/"),
    ("POST", "testpredictions/new/"),
    ("POST", "testpredictions/acknowledge/"),
]


@pytest.fixture(scope="module")
def shared_private(shared_engine: Engine) -> Iterator[Rest]:
    """A gateway that shows users their own folds only."""
    made = Rest(shared_engine, private_submissions=True)
    with made.client:
        yield made


@pytest.fixture
def private(shared_private: Rest) -> Rest:
    """That gateway with fold 11 of olga's and fold 21 of otto's, both tested."""
    shared_private.begin()
    raw_data_id = shared_private.ready()
    for user, fold_id in (("olga", 11), ("otto", 21)):
        answer = shared_private.fold(
            fold_id,
            user,
            databoard_s_id=fold_id,
            raw_data=raw_data_id,
            files={"classifier.py": CLASSIFIER},
        )
        shared_private.collect()
        shared_private.finish(answer.json())
    return shared_private


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_every_address_wants_a_user(rest: Rest, method: str, path: str) -> None:
    # When somebody asks without one, and with a body that nobody shall look at
    answer = rest.client.request(method, f"/runapp/{path}", content=b"{")

    # Then he is told to give one
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert "basic authentication" in answer.json()["detail"]


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        "Bearer token",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
        "Basic " + base64.b64encode(b"olga\0:olga's password").decode(),
        "Basic " + base64.b64encode(b"olga:wrong").decode(),
        "Basic " + base64.b64encode(b"nobody:olga's password").decode(),
    ],
)
def test_wrong_credentials_are_refused(rest: Rest, header: str) -> None:
    answer = rest.client.get("/runapp/rawdata/", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json()["detail"]


def test_changed_password_and_removed_user_count_at_once(rest: Rest) -> None:
    # Given a user who has been let in
    assert rest.get("rawdata/").status_code == 200

    # When his password is changed, then the former one is refused
    with transaction(rest.engine) as connection:
        set_password(connection, "olga", "another one")
    assert rest.get("rawdata/").status_code == 401
    answer = rest.client.get("/runapp/rawdata/", auth=("olga", "another one"))
    assert answer.status_code == 200

    # And when he is removed, the other one too
    with transaction(rest.engine) as connection:
        remove_user(connection, "olga")
    answer = rest.client.get("/runapp/rawdata/", auth=("olga", "another one"))
    assert answer.status_code == 401


def test_files_are_shown_to_their_uploader_and_to_admins(rest: Rest) -> None:
    # Given a fold of olga's
    rest.first_fold(rest.ready())

    # Then she and an admin see its files, another user sees the fold without
    for user in ("olga", "anna"):
        shown = rest.get("submissionfold/11/?format=json", user).json()["files"]
        assert shown == {"classifier.py": CLASSIFIER}
    other = rest.get("submissionfold/11/", "otto")
    assert other.status_code == 200
    assert other.json()["files"] is None


def test_submission_belongs_to_whoever_sent_it(rest: Rest) -> None:
    # Given a fold of olga's
    rest.first_fold(rest.ready())

    # When another user adds a fold to her submission, or forces hers, then it is refused
    assert rest.fold(12, "otto").status_code == 403
    assert rest.fold(11, "otto", force="submission_fold").status_code == 403

    # And an admin may, without becoming its owner
    assert rest.fold(12, "anna").status_code == 201
    assert rest.fold(13, "olga").status_code == 201
    assert rest.get("submissionfold/12/", "olga").json()["files"] == {
        "classifier.py": packed(CLASSIFIER)
    }


def test_submission_without_a_user_is_extended_and_forced_by_admins_alone(rest: Rest) -> None:
    # Given a fold that was published by a message that names no user
    rest.ready()
    rest.store.take(messages.fold(11, "run-11", files={"classifier.py": CLASSIFIER}))
    other = {"classifier.py": CLASSIFIER + "# mine\n"}

    # When a user asks for its files by adding a fold, or replaces them, then it is refused
    for answer in (
        rest.fold(12, "otto"),
        rest.fold(12, "otto", files=other, force="submission"),
        rest.fold(11, "otto", force="submission_fold"),
        rest.fold(11, "otto", files=other, force="submission, submission_fold"),
    ):
        assert answer.status_code == 403
        assert "only an admin" in answer.json()["detail"]
        assert "Classifier" not in answer.text

    # And an admin may do so
    assert rest.fold(12, "anna").json()["files"] == {"classifier.py": packed(CLASSIFIER)}
    assert rest.fold(11, "anna", force="submission_fold").status_code == 201


def test_folds_are_visible_to_every_user(rest: Rest) -> None:
    # Given a fold of olga's that has ended
    fold = rest.first_fold(rest.ready())
    rest.collect()
    rest.finish(fold)

    # Then another user sees its state and its predictions, as in 2016
    assert len(rest.get("submissionfold-light/", "otto").json()) == 1
    assert len(rest.get("submissionfold/", "otto").json()) == 1
    assert len(rest.post("testpredictions/new/", "otto").json()) == 1


def test_private_submissions_are_seen_by_their_uploader_and_admins(private: Rest) -> None:
    # Given a fold of olga's, and one of otto's
    # Then each sees his own, in every list, and an admin sees all
    for user, seen in (("olga", [11]), ("otto", [21]), ("anna", [11, 21])):
        for path in ("submissionfold/", "submissionfold-light/", "submissionfold/?limit=9"):
            listed = private.get(path, user).json()
            assert [fold["databoard_sf_id"] for fold in listed] == seen
        listed = private.post(
            "testpredictions/list/?acknowledge=manual", user, list_submission_fold=[11, 21]
        ).json()
        assert [fold["databoard_sf_id"] for fold in listed] == seen
    assert private.get("submissionfold/21/", "olga").status_code == 403
    assert private.get("submissionfold/?limit=9", "olga").headers["X-Total-Count"] == "1"


def test_what_is_private_is_acknowledged_by_its_uploader(private: Rest) -> None:
    # When a user acknowledges another one's result, or takes what is new to him
    body = {"list_submission_fold": [11]}
    answer = private.post("testpredictions/acknowledge/", "otto", **body)
    assert answer.json() == {"acknowledged": 0}
    assert len(private.post("testpredictions/new/", "otto").json()) == 1

    # Then the other one's is still new
    assert len(private.post("testpredictions/new/", "olga").json()) == 1
