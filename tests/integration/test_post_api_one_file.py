"""post_api takes a single path where it takes several."""

from __future__ import annotations

from pathlib import Path

from datarun import post_api
from tests.support.rest import IRIS
from tests.support.stack import Stack


def test_one_extra_file_and_one_submission_file_need_no_list(
    bare_stack: Stack, tmp_path: Path
) -> None:
    # Given a data set that is a CSV file and a python file
    client = bare_stack.start_gateway()
    login = (client.url, *client.auth)
    data, code, submission = (tmp_path / name for name in ("iris.csv", "split.py", "classifier.py"))
    data.write_text(IRIS)
    code.write_text("x = 1")
    submission.write_text("y = 1")

    # When the python file, and a submission's only file, are given as they are
    answer = post_api.post_data(*login, "iris", None, "classifier", data, str(code))
    assert answer.status_code == 201, answer.text
    fold = post_api.post_submission_fold(
        *login, 1, 11, [0], [1], raw_data_id=answer.json()["id"], list_submission_files=submission
    )

    # Then both are there: the data set is one with a python file
    split = post_api.custom_post_split(*login, answer.json()["id"])
    assert split.status_code == 200, split.text
    assert list(fold.json()["files"]) == ["classifier.py"]
