"""A long list of data sets, in pages and as a stream; priorities as they are spelled."""

from __future__ import annotations

import re

import pytest

from gateway import raw_data_routes
from schemas.messages import FoldMessage
from schemas.states import Priority
from tests.support.rest import Rest

NAMES = ["one", "two", "three", "four", "five"]


@pytest.fixture
def listed(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> Rest:
    """Five data sets, of which two are read at a time."""
    monkeypatch.setattr(raw_data_routes, "PAGE", 2)
    for name in NAMES:
        rest.register(name)
    return rest


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", NAMES),
        ("?limit=2", NAMES[:2]),
        ("?limit=3&offset=1", NAMES[1:4]),
        ("?offset=3", NAMES[3:]),
        ("?limit=9", NAMES),
        ("?offset=9", []),
    ],
)
def test_data_sets_are_listed_in_pages(listed: Rest, query: str, names: list[str]) -> None:
    # When they are asked for
    answer = listed.get(f"rawdata/{query}")

    # Then those are there, in their order, and how many there are if it may not be all
    assert [row["name"] for row in answer.json()] == names
    assert answer.headers.get("X-Total-Count") == ("5" if query else None)
    # In chunks: nobody had to know how long it is.
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "offset=-1"])
def test_pages_that_are_none_are_refused(rest: Rest, query: str) -> None:
    answer = rest.get(f"rawdata/?{query}")
    assert answer.status_code == 422
    assert query.split("=")[0] in answer.json()["detail"]


@pytest.mark.parametrize("text", ["L", "l", "low", "LOW", "H", "h", "high", "High", "HIGH", "Hi"])
def test_description_and_gateway_agree_on_how_a_priority_is_spelled(rest: Rest, text: str) -> None:
    # Given what the description says of it
    document = rest.client.get("/openapi.json").json()
    body = document["paths"]["/runapp/submissionfold/"]["post"]["requestBody"]
    field = body["content"]["application/json"]["schema"]["properties"]["priority"]
    is_described = re.search(field["pattern"], text) is not None

    # When a fold is posted with it
    files = {"classifier.py": "x = 1"}
    answer = rest.fold(raw_data=rest.ready(), files=files, priority=text)

    # Then it is taken just when it is described
    assert answer.status_code == (201 if is_described else 422)
    assert is_described == (text != "Hi")
    for message in rest.published(FoldMessage):
        assert message.priority is (Priority.H if text[0] in "Hh" else Priority.L)
