"""A name is taken by a data set that can be used, not by one that could not be split."""

from __future__ import annotations

import pytest

from schemas.files import decoded
from schemas.messages import DataMessage
from storage.gateway_models import RawData
from tests.support import messages
from tests.support.rest import IRIS, Rest, packed

OTHERS = "petal length,kind\n" + "1.4,setosa\n4.7,virginica\n" * 5


def again(rest: Rest, user: str = "olga") -> tuple[int, dict[str, object]]:
    """Register `iris` with other files; status and answer."""
    answer = rest.post(
        "rawdata/",
        user,
        name="iris",
        target_column="kind",
        workflow_elements="classifier",
        files={"others.csv": packed(OTHERS)},
    )
    return answer.status_code, answer.json()


def failed(rest: Rest) -> int:
    """A data set whose split has failed; its id."""
    raw_data_id = rest.register("iris")
    task_id = rest.split(raw_data_id)
    rest.collect()
    rest.store.take(messages.data_failed(task_id))
    rest.prepare_nothing()
    return raw_data_id


def test_data_set_that_could_not_be_split_is_registered_again_under_its_name(rest: Rest) -> None:
    # Given a data set whose split has failed
    raw_data_id = failed(rest)

    # When it is registered again, with other files
    status, document = again(rest)

    # Then it has its id, and is as good as new
    assert status == 200
    assert (document["id"], document["target_column"]) == (raw_data_id, "kind")
    assert (document["state"], document["task_id"]) == ("REGISTERED", None)
    assert document["log_messages"] == ""
    assert rest.count(RawData) == 1

    # And the same split as before is another one: of the new file alone
    task_id = rest.split(raw_data_id)
    message = rest.published(DataMessage)[-1]
    assert decoded(message.files) == {"iris.csv": OTHERS.encode()}
    assert message.target_column == "kind"

    # And folds can run on it
    version = rest.prepare(task_id)
    assert rest.first_fold(raw_data_id)["version"] == version


def test_data_set_that_was_never_split_is_registered_again(rest: Rest) -> None:
    # Given a data set, and a fold that waits for its split
    raw_data_id = rest.register("iris")
    fold = rest.first_fold(raw_data_id)

    # When it is registered again, and split
    assert again(rest)[0] == 200
    version = rest.prepare(rest.split(raw_data_id))

    # Then the fold gets what was registered last
    detail = rest.get(f"submissionfold/{fold['databoard_sf_id']}/").json()
    assert detail["version"] == version


def test_name_is_taken_while_its_data_set_is_being_split_and_afterwards(rest: Rest) -> None:
    # Given a data set that is being split
    raw_data_id = rest.register("iris")
    task_id = rest.split(raw_data_id)
    assert again(rest)[0] == 400

    # When it is split, and another split fails
    rest.prepare(task_id)
    assert again(rest)[0] == 400
    other = rest.split(raw_data_id, 0.5)
    rest.collect()
    rest.store.take(messages.data_failed(other))

    # Then it has a version, and its name is taken
    assert again(rest) == (400, {"name": ["RawData with this name already exists."]})


@pytest.mark.parametrize("user", ["otto", "anna"])
def test_name_is_taken_for_other_users(rest: Rest, user: str) -> None:
    failed(rest)
    assert again(rest, user)[0] == 400


@pytest.mark.parametrize(
    ("csv", "target", "sentence"),
    [
        (IRIS, "speces", "no column 'speces' (did you mean 'species'?); it has"),
        (IRIS, "kind", "it has 'petal length', 'species'"),
        ("\n \nx,y\n1,a\n", "z", "it has 'x', 'y'"),
        ('"a,b",c\r\n1,2\r\n', "a", "it has 'a,b', 'c'"),
    ],
)
def test_file_without_the_column_to_predict_is_refused_at_once(
    rest: Rest, csv: str, target: str, sentence: str
) -> None:
    answer = rest.post(
        "rawdata/",
        name="iris",
        target_column=target,
        workflow_elements="classifier",
        files={"a.csv": packed(csv)},
    )
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert rest.count(RawData) == 0


@pytest.mark.parametrize(
    ("content", "target"),
    [
        ("\ufeffspecies,x\n1,2\n".encode(), "species"),
        (b'"sp""ecies",x\n1,2\n', 'sp"ecies'),
        ("species,größe\n1,2\n".encode("latin-1"), "größe"),
        (b"x" * (2 << 20), "species"),
        (b"", "species"),
        (b"a,\n1,2\n", "Unnamed: 1"),
    ],
)
def test_file_of_which_that_is_not_certain_is_for_the_split_to_judge(
    rest: Rest, content: bytes, target: str
) -> None:
    files = {"a.csv": packed(content)}
    rest.register("iris", target_column=target, files=files)
