"""Tables call submissions by the names that their folders have."""

from __future__ import annotations

from datarun import Client
from tests.support.command import Folder
from tests.support.submissions import DUMMY


def test_tables_name_the_submission_beside_its_number(running: Folder) -> None:
    # Given a submission in a folder, and one that was published without any name
    running.publish_iris()
    running.submission("forest", {"classifier.py": DUMMY})
    submitted = running.json("submit", "forest", "--dataset", "iris", "--cv", "2", "--wait")
    number = submitted["submission_id"]
    fold = {"submission_id": 900, "dataset": "iris", "files": {"classifier.py": DUMMY}}
    with Client(running.connection()["broker"]) as client:
        client.publish_fold(submission_fold_id=9000, train_is=[0, 1], test_is=[2], **fold)
        list(client.follow([9000], timeout=60))

    # When its folds and results are listed, in a terminal of 80 columns
    folds = running.succeed("folds", "list", COLUMNS="80")
    results = running.succeed("results", "new", COLUMNS="80")

    # Then each line has the name beside the number, where there is one
    for table in (folds, results):
        cells = [line.split()[:4] for line in table.splitlines()]
        assert [fold[1:] for fold in cells].count([str(number), "forest", "iris"]) == 2
        assert ["9000", "900", "-", "iris"] in cells

    # And so does a single fold, and what programs get
    shown = running.succeed("folds", "show", str(submitted["submission_fold_ids"][0]))
    assert f"of submission {number} (forest) on iris" in shown
    listed = running.json("folds", "list", "--submission", str(number))
    assert {fold["submission_name"] for fold in listed} == {"forest"}
    news = running.json("results", "new")
    assert {result["submission_name"] for result in news} == {"forest", None}
