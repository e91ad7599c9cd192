"""Registering and splitting data sets over REST."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.registration import renamed
from schemas.datasets import Custom, HoldOut
from schemas.files import decoded
from schemas.messages import DataMessage
from storage.gateway_models import RawData
from storage.models import Dataset, OutboxRow
from tests.support import messages
from tests.support.rest import IRIS, Rest, packed

CODE = "import reading\n"


def test_registered_data_set_is_listed_with_its_integer_id(rest: Rest) -> None:
    # When a data set is registered
    answer = rest.post(
        "rawdata/",
        name="iris",
        target_column="species",
        workflow_elements="classifier",
        files={"anything.csv": packed(IRIS)},
    )

    # Then it is answered and listed with an id, and nothing is published yet
    assert answer.status_code == 201
    assert answer.json()["id"] == 1
    assert answer.json()["files_path"] is None
    assert answer.json()["state"] == "REGISTERED"
    assert rest.get("rawdata/").json() == [answer.json()]
    assert rest.count(OutboxRow) == 0


@pytest.mark.parametrize("path", ["rawdata", "rawdata/", "raw_data", "raw_data/"])
def test_each_spelling_of_the_address_is_answered(rest: Rest, path: str) -> None:
    # When a data set is registered and listed under it, then both work, without a redirection
    body = {"name": "iris", "target_column": "species", "workflow_elements": "classifier"}
    assert rest.post(path, **body, files={"a.csv": IRIS}).status_code == 201
    assert len(rest.get(path, follow_redirects=False).json()) == 1


def test_ids_have_no_gaps(rest: Rest) -> None:
    # Given a data set that is split, twice
    first = rest.register("one")
    rest.split(first, 0.4)
    rest.split(first, 0.5)

    # When others are registered, then they have the ids that follow
    assert (first, rest.register("two"), rest.register("three")) == (1, 2, 3)


def test_name_that_is_taken_is_refused_in_the_words_of_2016(rest: Rest) -> None:
    # Given a data set that is split
    rest.ready("iris")

    # When another one of its name is registered
    answer = rest.post(
        "rawdata/",
        name="iris",
        target_column="x",
        workflow_elements="classifier",
        files={"a.csv": "x,y\n"},
    )

    # Then it is refused
    assert answer.status_code == 400
    assert answer.json() == {"name": ["RawData with this name already exists."]}
    assert rest.count(RawData) == 1


@pytest.mark.parametrize(
    ("files", "stored"),
    [
        (("train.csv",), ("iris.csv",)),
        (("train.txt",), ("iris.csv",)),
        (("train.csv.gz",), ("iris.csv.gz",)),
        (("TRAIN.CSV.BZ2",), ("iris.csv.bz2",)),
        (("data.csv", "iris_datarun.py"), ("data.csv", "specific.py")),
        (("data.csv", "reading.py", "specific.py"), ("data.csv", "reading.py", "specific.py")),
        (("only.py",), ("specific.py",)),
    ],
)
def test_files_are_renamed_as_in_2016(files: tuple[str, ...], stored: tuple[str, ...]) -> None:
    assert tuple(renamed("iris", files)[name] for name in files) == stored


@pytest.mark.parametrize(
    "files", [{"a.csv": "1", "b.csv": "2"}, {"a.py": "1", "b.py": "2", "c.csv": "3"}]
)
def test_files_of_which_nobody_can_say_what_they_are_are_not_acceptable(
    rest: Rest, files: dict[str, str]
) -> None:
    answer = rest.post(
        "rawdata/", name="x", target_column="y", workflow_elements="classifier", files=files
    )
    assert answer.status_code == 406
    assert "specific.py" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "iris data", "use 1 to 40 of letters"),
        ("name", "i" * 41, "use 1 to 40 of letters"),
        ("workflow_elements", "classifer", "no standard workflow"),
        ("target_column", "", "needs the name of the column"),
        ("target_column", "a\0b", "NUL"),
        ("files", {}, "files"),
        ("files", {"../x.csv": "a"}, "plain file name"),
        ("files", {"x.csv": packed(IRIS)[:-8]}, "zlib data"),
        ("files", {"x.csv": 3}, "files.x.csv"),
    ],
)
def test_body_that_is_not_what_is_described_is_answered_with_a_sentence(
    rest: Rest, field: str, value: object, sentence: str
) -> None:
    # Given a body that is right but for one field
    body = {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"a.csv": IRIS},
        field: value,
    }

    # When it is posted, then the sentence names what is wrong, and nothing is stored
    answer = rest.post("rawdata/", **body)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert rest.count(RawData) == 0


def test_split_publishes_the_files_under_the_names_of_2016(rest: Rest) -> None:
    # Given a data set of one file
    raw_data_id = rest.register("iris", files={"anything.csv": packed(IRIS)})

    # When a split is asked for
    task_id = rest.split(raw_data_id, 0.4)

    # Then its message waits to be published, and the data set is TODO
    (message,) = rest.published(DataMessage)
    assert decoded(message.files) == {"iris.csv": IRIS.encode()}
    assert message.split == HoldOut(0.4, 42)
    assert message.uploader == "olga"
    (listed,) = rest.get("rawdata/").json()
    assert (listed["state"], listed["task_id"]) == ("TODO", task_id)

    # And when it is split, its version is shown
    version = rest.prepare(task_id)
    (listed,) = rest.get("rawdata/").json()
    assert (listed["state"], listed["version"], listed["n_train"], listed["n_test"]) == (
        "READY",
        version,
        messages.N_TRAIN,
        messages.N_TEST,
    )


def test_same_split_again_is_the_same_task_and_another_one_is_another(rest: Rest) -> None:
    # Given a split
    raw_data_id = rest.register()
    first = rest.split(raw_data_id, 0.4)

    # When it is asked for again, before and after it is done, nothing is published
    assert rest.split(raw_data_id, 0.4) == first
    rest.prepare(first)
    assert rest.split(raw_data_id, 0.4) == first
    assert len(rest.published(DataMessage)) == 1

    # When another one is asked for, it is published
    assert rest.split(raw_data_id, 0.5) != first
    assert len(rest.published(DataMessage)) == 2


def test_split_that_failed_can_be_tried_again(rest: Rest) -> None:
    # Given a split that has failed
    raw_data_id = rest.register()
    first = rest.split(raw_data_id)
    rest.collect()
    rest.store.take(messages.data_failed(first))
    (listed,) = rest.get("rawdata/").json()
    assert listed["state"] == "FAILED"
    assert listed["log_messages"].endswith("ERROR(split data)")

    # When it is asked for again, then it is another task
    assert rest.split(raw_data_id) != first


def test_message_that_comes_back_to_the_collector_changes_nothing(rest: Rest) -> None:
    # Given a split, and a fold
    raw_data_id = rest.ready()
    rest.first_fold(raw_data_id)
    before = rest.store.content(), rest.count(Dataset)

    # When their messages are published and come to the collector, twice
    rest.collect()

    # Then nothing has changed, and nothing is said to be ignored
    assert (rest.store.content(), rest.count(Dataset)) == before
    assert rest.store.ignored() == []


def test_custom_data_set_is_split_with_its_own_file(rest: Rest) -> None:
    # Given a data set with code
    files = {"data.csv": IRIS, "iris_datarun.py": CODE}
    raw_data_id = rest.register("stars", target_column="", files=files)

    # When a custom split is asked for
    answer = rest.post("rawdata/customsplit/", raw_data_id=raw_data_id)

    # Then its message has the file under the name of 2016
    assert answer.status_code == 200
    (message,) = rest.published(DataMessage)
    assert message.split == Custom("specific.py")
    assert decoded(message.files) == {"data.csv": IRIS.encode(), "specific.py": CODE.encode()}

    # And the other kind of split is refused, for both kinds of data set
    body = {"raw_data_id": raw_data_id, "held_out_test": 0.5}
    assert rest.post("rawdata/split/", **body).status_code == 400
    csv = rest.register("iris")
    assert rest.post("rawdata/customsplit/", raw_data_id=csv).status_code == 400


def test_split_of_nothing_is_not_found(rest: Rest) -> None:
    for path, more in (("split", {"held_out_test": 0.5}), ("customsplit", {})):
        answer = rest.post(f"rawdata/{path}/", raw_data_id=7, **more)
        assert answer.status_code == 404
        assert "no raw data with id 7" in answer.json()["detail"]


def test_large_files_wait_for_their_upload(rest: Rest) -> None:
    # Given a data set that is too large for a message
    rows = np.random.default_rng(0).random((60_000, 2))
    csv = "a,species\n" + "\n".join(f"{a},{b}" for a, b in rows)
    raw_data_id = rest.register(files={"a.csv": packed(csv)})

    # When a split is asked for
    rest.split(raw_data_id)

    # Then its message is not published before the file is uploaded
    assert rest.published(DataMessage) == []
    assert rest.count(OutboxRow) == 1


def test_data_set_that_a_message_has_published_has_an_id_too(rest: Rest) -> None:
    # Given a data set that was published by a message
    rest.store.prepare_iris()

    # When it is listed
    (listed,) = rest.get("rawdata/").json()

    # Then folds can name it, but REST has no files of it to split
    assert (listed["name"], listed["state"]) == ("iris", "READY")
    assert rest.first_fold(listed["id"])["version"] == listed["version"]
    answer = rest.post("rawdata/split/", raw_data_id=listed["id"], held_out_test=0.5)
    assert answer.status_code == 400
    assert "published by a message" in answer.json()["detail"]


def test_another_user_may_not_split_a_data_set_and_an_admin_may(rest: Rest) -> None:
    body = {"raw_data_id": rest.register(), "held_out_test": 0.5}
    assert rest.post("rawdata/split/", "otto", **body).status_code == 403
    assert rest.post("rawdata/split/", "anna", **body).status_code == 200
