"""Data sets: splits, workflows, references, and versions that follow the content."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from schemas.arrays import Array
from schemas.datasets import DatasetReference, Manifest, Part, workflow_elements
from schemas.errors import MessageError
from schemas.messages import DataMessage, FoldMessage
from schemas.states import Visibility
from schemas.wire import unpack
from tests.unit.schema_strategies import MANY, dataset, envelope, fold, manifests


def read_fold(**changes: Any) -> FoldMessage:
    message = unpack(envelope(fold(**changes)))
    assert isinstance(message, FoldMessage)
    return message


def read_dataset(**changes: Any) -> DataMessage:
    message = unpack(envelope(dataset(**changes), DataMessage))
    assert isinstance(message, DataMessage)
    return message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ""}, "name"),
        ({"name": "a" * 41}, "name"),
        ({"name": "iris\n"}, "name"),
        ({"name": "iris.csv"}, "name"),
        ({"name": "é"}, "name"),
        ({"target_column": None}, "target_column"),
        ({"target_column": ""}, "target_column"),
        ({"files": {}}, "at least one file"),
        ({"files": {"a.csv": "x", "b.csv": "y"}}, "takes one CSV file, not 2"),
        ({"split": {"held_out_test": 0}}, "split"),
        ({"split": {"held_out_test": 1}}, "split"),
        ({"split": {"held_out_test": "much"}}, "split"),
        ({"split": {"held_out_test": 0.5, "random_state": -1}}, "split"),
        ({"split": {"held_out_test": 0.5, "random_state": 2**32}}, "split"),
        ({"split": {}}, "split"),
        ({"split": {"file": "missing.py"}}, "not among the files"),
        ({"split": {"file": "iris.csv"}}, "not a python file"),
        ({"workflow_elements": ""}, "workflow_elements"),
        ({"workflow_elements": "classifier,"}, "workflow_elements"),
        ({"workflow_elements": "classifier, classifier"}, "twice"),
        ({"workflow_elements": "os.path"}, "workflow_elements"),
        ({"workflow_elements": "classifier, feature_extractor"}, "no standard workflow"),
        ({"workflow_elements": "clusterer"}, "no standard workflow"),
        ({"uploads": {"iris.csv": {"size": 1, "sha256": "0" * 64, "blob": "a"}}}, "both"),
        ({"uploads": {"../x": {"size": 1, "sha256": "0" * 64, "blob": "a"}}}, "uploads"),
        ({"uploads": {"x.csv": {"size": 1, "sha256": "0" * 64, "blob": "../a"}}}, "blob"),
        ({"uploads": {"x.csv": {"size": 1, "sha256": "XYZ", "blob": "a"}}}, "sha256"),
    ],
)
def test_a_data_set_that_does_not_fit_together_is_refused(changes: dict[str, Any], reason: str):
    with pytest.raises(MessageError, match=reason):
        read_dataset(**changes)


def test_a_custom_data_set_names_its_own_workflow():
    # Given several files, a custom split, and elements of its own
    message = read_dataset(
        target_column=None,
        files={"specific.py": "", "stars.csv": ""},
        split={"file": "specific.py"},
        workflow_elements="feature_extractor, my_step",
    )

    # Then it is taken
    assert workflow_elements(message.workflow_elements) == ("feature_extractor", "my_step")


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("iris", "iris", None),
        ("iris@0123456789abcdef", "iris", "0123456789abcdef"),
        ("A-b_9", "A-b_9", None),
    ],
)
def test_a_data_set_is_named_with_or_without_a_version(text: str, name: str, version: str | None):
    reference = DatasetReference.parse(text)
    assert (reference.name, reference.version) == (name, version)
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "iris@",
        "iris@0123",
        "iris@0123456789ABCDEF",
        "iris@0123456789abcdef0",
        "a" * 41,
        "iris\n",
        "iris@0123456789abcdef\n",
        "i ris",
        "../iris",
        "iris@@0123456789abcdef",
        "٣",
    ],
)
def test_what_names_no_data_set_is_refused(text: str):
    with pytest.raises(MessageError, match="not a data set's name"):
        DatasetReference.parse(text)
    with pytest.raises(MessageError, match="dataset"):
        read_fold(dataset=text)


MANIFEST = {
    "name": "iris",
    "target_column": "species",
    "workflow_elements": "classifier",
    "split": {"held_out_test": 0.5, "random_state": 42},
    "n_train": 75,
    "n_test": 75,
    "columns": ["a", "b"],
    "classes": Array.of(["x", "y"]),
    "scoring": [],
    "parts": [
        {
            "name": "X_train",
            "format": "npy",
            "visibility": "public",
            "size": 8,
            "sha256": "0" * 64,
            "blob": "one",
        }
    ],
}
PART = MANIFEST["parts"][0]


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate(MANIFEST | changes)


def test_the_version_of_a_data_set_does_not_depend_on_where_its_parts_are():
    assert manifest().version == manifest(parts=[PART | {"blob": "two"}]).version
    assert manifest().reference == f"iris@{manifest().version}"
    assert str(DatasetReference.parse(manifest().reference)) == manifest().reference


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "iris2"},
        {"target_column": None},
        {"workflow_elements": "regressor"},
        {"split": {"held_out_test": 0.25, "random_state": 42}},
        {"split": {"held_out_test": 0.5, "random_state": 43}},
        {"split": {"file": "specific.py"}},
        {"n_train": 74},
        {"n_test": 74},
        {"columns": ["b", "a"]},
        {"columns": None},
        {"classes": None},
        {"classes": Array.of(["x", "z"])},
        {"scoring": ["roc_auc"]},
        {"parts": []},
        {"parts": [PART, PART]},
        {"parts": [PART | {"name": "X_test"}]},
        {"parts": [PART | {"format": "pickle"}]},
        {"parts": [PART | {"visibility": "secret"}]},
        {"parts": [PART | {"size": 9}]},
        {"parts": [PART | {"sha256": "1" * 64}]},
    ],
    ids=str,
)
def test_the_version_of_a_data_set_changes_with_its_content(changes: dict[str, Any]):
    assert manifest(**changes).version != manifest().version


@MANY
@given(manifests)
def test_the_version_of_a_data_set_is_the_same_for_every_reader(made: Manifest):
    assert Manifest.model_validate_json(made.model_dump_json()).version == made.version


def test_a_part_of_a_data_set_cannot_be_named_or_kept_outside_its_folder():
    for field in ("name", "blob"):
        for value in ("../X_train", "/X_train", "", "a" * 300):
            with pytest.raises(ValueError, match=field):
                Part.model_validate(PART | {field: value})


def test_the_part_asked_for_is_found():
    assert manifest().part("X_train").visibility is Visibility.PUBLIC
    with pytest.raises(KeyError):
        manifest().part("y_test")
