"""One thing where the functions of 2016 take a list: its letters are no things."""

from __future__ import annotations

import pytest

from datarun import post_api
from schemas.errors import MessageError, MissingFileError

GATEWAY = ("http://127.0.0.1:9/", "username", "password")
"""Nobody listens there: whatever is sent fails with requests' own error, not with one of ours."""


@pytest.mark.parametrize("fold_ids", ["12", 12, "[1, 2]", b"12"])
def test_fold_ids_that_are_no_list_are_refused(fold_ids: object) -> None:
    with pytest.raises(MessageError, match=r"list_submission_fold_id: give a list of ids, not"):
        post_api.get_prediction_list(*GATEWAY, fold_ids)  # type: ignore[arg-type]


def test_one_extra_file_is_named_whole_when_it_is_missing() -> None:
    with pytest.raises(MissingFileError, match=r"no such file or folder: specific\.py \("):
        post_api.post_data(*GATEWAY, "iris", "species", "classifier", __file__, "specific.py")
