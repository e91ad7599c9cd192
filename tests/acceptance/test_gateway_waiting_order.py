"""Folds that were posted before their data set was split run in the order in which they came."""

from __future__ import annotations

from pathlib import Path

from tests.support.stack import Stack
from tests.support.submissions import DUMMY, write_iris


def test_folds_that_waited_for_the_split_run_in_the_order_of_posting(
    stack: Stack, tmp_path: Path
) -> None:
    # Given a worker that runs one fold at a time, and folds posted before the split
    stack.start_all(slots=1)
    client = stack.start_gateway()
    answer = client.post(
        "rawdata/",
        name="iris",
        target_column="species",
        workflow_elements="classifier",
        files={"iris.csv": write_iris(tmp_path).read_text()},
    )
    raw_data_id = answer.json()["id"]
    order = tmp_path / "order"
    posted = [15, 11, 17, 12, 16, 13, 14]
    for fold_id in posted:
        code = f"open({str(order)!r}, 'a').write('{fold_id} ')\n{DUMMY}"
        answer = client.post(
            "submissionfold/",
            databoard_sf_id=fold_id,
            databoard_s_id=fold_id,
            raw_data=raw_data_id,
            files={"classifier.py": code},
            train_is=list(range(60)),
            test_is=list(range(60, 75)),
        )
        assert answer.status_code == 201, answer.text

    # When it is split
    body = {"raw_data_id": raw_data_id, "held_out_test": 0.5}
    assert client.post("rawdata/split/", **body).status_code == 200

    # Then they run as they came
    client.wait_until_ended(*posted)
    assert [int(word) for word in order.read_text().split()] == posted
