"""The functions of 2016: names and parameters, and what is refused before anything is sent."""

from __future__ import annotations

import inspect
import pydoc
from pathlib import Path

import numpy as np
import pytest

import datarun.post_api
from datarun import post_api
from schemas.errors import FileError, MessageError, MissingFileError

GATEWAY = ("http://127.0.0.1:9/", "username", "password")
"""Nobody listens there: whatever is sent fails with requests' own error, not with one of ours."""

LOGIN = "host_url, username, password"
SIGNATURES = {
    "custom_post_split": f"{LOGIN}, raw_data_id",
    "get_prediction_list": f"{LOGIN}, list_submission_fold_id",
    "get_prediction_new": f"{LOGIN}, raw_data_id",
    "get_raw_data": LOGIN,
    "get_submission_fold": LOGIN,
    "get_submission_fold_detail": f"{LOGIN}, submission_fold_id",
    "get_submission_fold_light": LOGIN,
    "post_data": f"{LOGIN}, data_name, target_column, workflow_elements, data_file, "
    "extra_files=None",
    "post_split": f"{LOGIN}, held_out_test, raw_data_id, random_state=42",
    "post_submission_fold": f"{LOGIN}, sub_id, sub_fold_id, train_is, test_is, priority='L', "
    "raw_data_id=None, list_submission_files=None, force=None",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_and_their_order_are_those_of_the_0_2_document(name: str) -> None:
    signature = inspect.signature(getattr(post_api, name))

    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    assert ", ".join(map(str, bare)) == SIGNATURES[name]


def test_an_import_of_everything_brings_the_functions_and_nothing_else() -> None:
    namespace: dict[str, object] = {}

    exec("from datarun.post_api import *", namespace)

    assert {name for name in namespace if not name.startswith("__")} == set(SIGNATURES)
    assert datarun.post_api is post_api


def test_help_shows_each_function_with_what_it_does() -> None:
    text = pydoc.plain(pydoc.render_doc(post_api))

    for name in SIGNATURES:
        assert f"    {name}(host_url" in text
    assert "Register a data set; its id is" in text


def test_a_mask_is_not_taken_for_row_numbers() -> None:
    mask = np.array([True, False, True])

    with pytest.raises(MessageError, match=r"train_is: give the numbers of rows.*bool"):
        post_api.post_submission_fold(*GATEWAY, 1, 11, mask, np.array([1]))


def test_rows_of_two_dimensions_are_refused() -> None:
    with pytest.raises(MessageError, match=r"test_is: .*shape \(1, 2\)"):
        post_api.post_submission_fold(*GATEWAY, 1, 11, [0, 1], [[2, 3]])


def test_an_id_that_is_no_integer_is_named() -> None:
    with pytest.raises(MessageError, match=r"raw_data_id: 1\.5 is not an integer"):
        post_api.custom_post_split(*GATEWAY, 1.5)  # type: ignore[arg-type]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(MissingFileError, match=r"no such file or folder: nowhere\.csv"):
        post_api.post_data(*GATEWAY, "iris", "species", "classifier", "nowhere.csv")


def test_two_files_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    # Given two files that differ by their folder only
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "iris.csv").write_text(name)

    # Then they are refused: without folders, one of them would be lost
    with pytest.raises(FileError, match=r"two files are named 'iris\.csv'"):
        post_api.post_data(
            *GATEWAY,
            "iris",
            "species",
            "classifier",
            tmp_path / "a" / "iris.csv",
            [tmp_path / "b" / "iris.csv"],
        )


def test_address_without_its_protocol_is_a_sentence() -> None:
    with pytest.raises(MessageError, match=r"host_url: '127\.0\.0\.1:8000' needs http://"):
        post_api.get_raw_data("127.0.0.1:8000", "olga", "password")
