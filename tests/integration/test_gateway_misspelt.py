"""A name that is not known, after `?` or in a body that decides what is cleared, is refused."""

from __future__ import annotations

import pytest

from tests.support.rest import Rest


@pytest.fixture
def finished(rest: Rest) -> Rest:
    """One fold whose result is new."""
    rest.finish(rest.first_fold(rest.ready()))
    return rest


def is_new(rest: Rest) -> bool:
    """Whether the fold's result still is."""
    (fold,) = rest.get("submissionfold-light/").json()
    return bool(fold["new"])


@pytest.mark.parametrize(
    ("path", "body"),
    [("testpredictions/new", {}), ("testpredictions/list", {"list_submission_fold": [11]})],
)
@pytest.mark.parametrize("slash", ["/", ""])
def test_misspelt_acknowledge_clears_nothing_and_is_named(
    finished: Rest, path: str, slash: str, body: dict[str, object]
) -> None:
    # When results are asked for with a slip of the pen
    answer = finished.post(f"{path}{slash}?acknowlege=manual", **body)

    # Then the sentence names what was meant, and the result stays new
    assert answer.status_code == 422
    assert "'acknowlege'" in answer.json()["detail"]
    assert "did you mean 'acknowledge'?" in answer.json()["detail"]
    assert is_new(finished)

    # And spelt as it is meant, it is taken
    assert finished.post(f"{path}{slash}?acknowledge=manual", **body).status_code == 200
    assert is_new(finished)


@pytest.mark.parametrize(
    ("path", "body", "known"),
    [
        ("testpredictions/new/", {"rawdata_id": 2}, "raw_data_id"),
        ("testpredictions/new/", {"acknowledge": "manual"}, "raw_data_id"),
        (
            "testpredictions/list/",
            {"list_submission_fold": [11], "acknowledge": "manual"},
            "list_submission_fold",
        ),
    ],
)
def test_unknown_field_of_a_call_that_clears_is_refused(
    finished: Rest, path: str, body: dict[str, object], known: str
) -> None:
    answer = finished.post(path, **body)
    assert answer.status_code == 422
    assert known in answer.json()["detail"]
    assert is_new(finished)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "rawdata/"),
        ("get", "submissionfold-light/"),
        ("get", "submissionfold/"),
        ("get", "submissionfold/11/"),
        ("post", "rawdata/split/"),
        ("post", "submissionfold/"),
        ("post", "testpredictions/acknowledge/"),
    ],
)
def test_every_address_refuses_a_parameter_that_it_does_not_have(
    finished: Rest, method: str, path: str
) -> None:
    answer = getattr(finished, method)(f"{path}?stat=new")
    assert answer.status_code == 422
    assert "no parameter 'stat'" in answer.json()["detail"]


def test_stranger_is_asked_who_he_is_before_his_spelling_is_judged(rest: Rest) -> None:
    answer = rest.client.get("/runapp/rawdata/?stat=new", auth=("nobody", "nothing"))
    assert answer.status_code == 401


def test_unknown_field_of_a_fold_is_ignored_as_in_2016(rest: Rest) -> None:
    answer = rest.fold(
        11, raw_data=rest.ready(), files={"classifier.py": "class Classifier: pass"}, comment="x"
    )
    assert answer.status_code == 201
