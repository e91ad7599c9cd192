"""Data sets, submissions and results by command."""

from __future__ import annotations

import signal

import pytest

from datarun import Client
from tests.support.command import Folder
from tests.support.deadline import wait_until

SLEEPY = """\
import time

from sklearn.dummy import DummyClassifier


class Classifier(DummyClassifier):
    def fit(self, X, y):
        time.sleep(600)
"""
DUMMY = """\
from sklearn.dummy import DummyClassifier


class Classifier(DummyClassifier):
    pass
"""
BROKEN = """\
class Classifier:
    def fit(self, X, y):
        print("about to say: ValueError: no such luck in train")
        raise ValueError("no such luck")

    def predict_proba(self, X):
        return X
"""


@pytest.fixture(scope="module")
def iris(running: Folder) -> Folder:
    """A stack with iris and two submissions."""
    running.publish_iris()
    running.submission("dummy", {"classifier.py": DUMMY})
    running.submission("broken", {"classifier.py": BROKEN})
    running.submission("sleepy", {"classifier.py": SLEEPY})
    running.submission("empty", {".hidden": ""})
    running.submission("misnamed", {"clasifier.py": DUMMY})
    return running


def test_published_data_set_is_listed_and_shown(iris: Folder) -> None:
    # When the published data set is asked for
    (listed,) = iris.json("data", "list")
    shown = iris.json("data", "show", "iris")

    # Then its split is known
    assert shown == listed | {"failed_since": None}
    assert (shown["state"], shown["n_train"], shown["n_test"]) == ("READY", 120, 30)
    assert shown["classes"] == ["setosa", "versicolor", "virginica"]
    assert "setosa, versicolor, virginica" in iris.succeed("data", "show", "iris")
    assert "READY" in iris.succeed("data", "list")


def test_data_set_that_cannot_be_split_is_an_error_that_says_why(iris: Folder) -> None:
    # Given a file without the target column
    (iris.path / "odd.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")

    # When it is published
    done = iris.run("data", "publish", "odd", "odd.csv", "--target", "species")

    # Then the reason is said
    assert done.returncode == 1
    assert "species" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_set_that_was_ready_and_failed_when_it_was_published_again_shows_both(
    iris: Folder,
) -> None:
    # Given a data set that is ready, and one of its name that cannot be split
    published = ("data", "publish", "twice", "iris.csv", "--target", "species")
    done = iris.run(*published)
    assert done.returncode == 0
    assert "twice is published, and is being split" in done.stderr
    failed = iris.run(*published, "--workflow", "regressor")
    assert failed.returncode == 1

    # When it is shown
    shown = iris.succeed("data", "show", "twice")
    document = iris.json("data", "show", "twice")

    # Then there is the version, and what failed since, with its reason
    assert shown.startswith("READY twice@")
    assert "published again since, and failed:\nFAILED twice@-" in shown
    assert document["state"] == "READY"
    assert document["failed_since"]["verdict"]["message"] in shown


def test_submission_is_tested_and_its_results_are_new_until_acknowledged(iris: Folder) -> None:
    # Given results that somebody has seen
    iris.succeed("results", "ack", "--all")

    # When a submission is submitted and waited for
    row = iris.json("submit", "dummy", "--dataset", "iris", "--cv", "4", "--wait")

    # Then its row is complete
    assert (row["submission"], row["dataset"]) == ("dummy", "iris")
    assert row["scorers"] == ["accuracy"]
    folds = iris.json("folds", "list", "--submission", str(row["submission_id"]))
    assert [fold["submission_fold_id"] for fold in folds] == row["submission_fold_ids"]
    assert (row["folds"], row["tested"], row["failed"]) == (4, 4, 0)
    assert 0.2 < row["validation_score"] < 0.5
    assert row["train_seconds"] > 0
    assert row["memory_kb"] > 0
    assert row["verdict"] is None

    # And its results are new, until they are acknowledged
    new = iris.json("results", "new")
    assert [result["state"] for result in new] == ["TESTED"] * 4
    first = str(new[0]["submission_fold_id"])
    assert iris.json("results", "ack", first) == {"acknowledged": 1}
    assert len(iris.json("results", "new", "--dataset", "iris")) == 3
    assert iris.json("results", "ack", "--all") == {"acknowledged": 3}
    assert iris.json("results", "new") == []
    assert iris.succeed("results", "new") == "Nothing is new.\n"


def test_submission_without_waiting_names_its_folds(iris: Folder) -> None:
    # When a submission is submitted with high priority
    submitted = iris.json("submit", "dummy", "--dataset", "iris", "--cv", "2", "--priority", "H")

    # Then its folds can be looked up at once
    folds = iris.json("folds", "list", "--submission", str(submitted["submission_id"]))
    assert [fold["submission_fold_id"] for fold in folds] == submitted["submission_fold_ids"]
    assert {fold["priority"] for fold in folds} == {"H"}
    assert {fold["dataset"].partition("@")[0] for fold in folds} == {"iris"}


def test_failed_fold_shows_its_verdict_and_what_it_printed(iris: Folder) -> None:
    # When a submission fails in fit
    done = iris.run("submit", "broken", "--dataset", "iris", "--cv", "2", "--wait")
    table = done.stdout

    # Then the exit status says so, and the table says why
    assert done.returncode == 1
    assert done.stderr.endswith("broken: 2 folds, 2 failed\n")
    assert "broken failed: ValueError: no such luck" in table
    assert "(fault of: submission)" in table

    # And the fold shows everything that was printed, and its verdict once
    fold = iris.json("folds", "list", "--state", "ERROR")[-1]["submission_fold_id"]
    shown = iris.succeed("folds", "show", str(fold))
    assert "about to say: ValueError: no such luck in train\n" in shown
    assert shown.count("no such luck in train") == 2
    assert shown.rstrip().endswith("ERROR(train)")
    document = iris.json("folds", "show", str(fold))
    assert document["verdict"]["culprit"] == "submission"
    assert document["log_messages"].endswith("ERROR(train)")


def test_tables_name_the_scorer_within_80_columns(iris: Folder) -> None:
    # When results are shown
    submitted = iris.succeed("submit", "dummy", "--dataset", "iris", "--cv", "10", "--wait")
    new = iris.succeed("results", "new")

    # Then the columns of the table say what they are of
    assert submitted.splitlines()[0].split()[-2:] == ["train,", "peak"]
    assert submitted.splitlines()[1].split()[-3:] == ["all", "folds", "memory"]

    # And those of scores, which score it is
    for table in (submitted, new):
        above, below = table.splitlines()[:2]
        assert "valid" in above
        assert "test" in above
        assert below.split().count("accuracy") == 2
        # In a terminal that is too narrow, a failure is broken between its words.
        lines = [line.partition("train: exception")[0] for line in table.splitlines()]
        assert max(len(line.rstrip()) for line in lines if set(line) != {"─"}) <= 80


def test_first_of_several_scorers_is_named(iris: Folder) -> None:
    # Given a data set with two scorers, the first with a long name
    iris.json(
        *("data", "publish", "losses", "iris.csv", "--target", "species"),
        *("--scoring", "neg_log_loss", "--scoring", "balanced_accuracy"),
    )

    # When a submission is tested on it
    table = iris.succeed("submit", "dummy", "--dataset", "losses", "--cv", "2", "--wait")

    # Then the table says whose scores it shows
    assert table.splitlines()[1].split().count("neg_log_loss") == 2
    assert "scores are neg_log_loss, the first of neg_log_loss, balanced_accuracy" in table


def test_cancelled_folds_are_counted_and_the_wait_for_them_fails(iris: Folder) -> None:
    # Given folds that would go on for minutes
    waited = iris.run("submit", "sleepy", "--dataset", "iris", "--cv", "2", "--wait", "--timeout=3")
    folds = iris.json("folds", "list", "--dataset", "iris")[-2:]

    # Then who waits for them is told that they go on
    assert waited.returncode == 1
    assert goes_on(folds[0]["submission_id"]) in waited.stderr

    # When they are cancelled, twice, and one with them that there is not
    ids = [fold["submission_fold_id"] for fold in folds]
    first = iris.json("folds", "cancel", *map(str, ids))
    second = iris.run("folds", "cancel", *map(str, ids), "99")

    # Then those that had not ended are counted, and the others named
    assert first == {"cancelled": 2, "ended": [], "unknown": []}
    assert second.returncode == 1
    assert second.stdout == (
        f"0 cancelled\n2 had ended already: {ids[0]}, {ids[1]}\n1 unknown: 99\n"
    )
    assert iris.json("folds", "show", str(ids[0]))["state"] == "CANCELLED"


def test_interrupted_wait_says_how_to_find_the_submission_and_stop_it(iris: Folder) -> None:
    # Given somebody who waits for a submission that would go on for minutes
    command = iris.start("submit", "sleepy", "--dataset", "iris", "--cv", "3", "--wait")
    assert command.stderr is not None
    published = command.stderr.readline()
    assert "3 folds published" in published
    submission = published.split()[1]

    def states() -> list[str]:
        listed = iris.succeed("folds", "list", "--submission", submission)
        return [" ".join(line.split()[4:6]) for line in listed.splitlines()[2:]]

    # When two of its folds run, on a stack of two slots
    wait_until(lambda: states().count("TODO (running)") == 2, within=60, every=0.5)

    # Then the third one waits, and none is new
    assert sorted(states()) == ["TODO (running)", "TODO (running)", "TODO L"]
    folds = iris.json("folds", "list", "--submission", submission)
    assert sorted(fold["running"] for fold in folds) == [False, True, True]
    assert not any(fold["new"] for fold in folds)

    # When Ctrl-C is pressed
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)

    # Then it is said that the submission goes on, and it does
    assert command.returncode in (130, -signal.SIGINT)
    assert errors == f"{goes_on(submission)}\n"
    assert states().count("TODO (running)") == 2

    # And all of it can be cancelled, once
    cancelled = iris.json("folds", "cancel", "--submission", submission)
    assert cancelled == {"cancelled": 3, "ended": [], "unknown": []}
    again = iris.succeed("folds", "cancel", "--submission", submission)
    assert again.startswith("0 cancelled\n3 had ended already: ")


def goes_on(submission: object) -> str:
    """The sentence for whoever waits no longer."""
    return (
        f"submission {submission} goes on; `datarun folds list --submission {submission}` shows "
        f"it, `datarun folds cancel --submission {submission}` stops it"
    )


def test_last_folds_are_listed_and_all_are_counted(iris: Folder) -> None:
    # Given more folds than are asked for
    iris.json("submit", "dummy", "--dataset", "iris", "--cv", "4", "--wait")
    everything = iris.json("folds", "list", "--limit", "1000")

    # When the list is cut
    two = iris.json("folds", "list", "--limit", "2")
    text = iris.succeed("folds", "list", "--limit", "2")

    # Then it has those that were allotted last, and says how many there are
    def ids(folds: list[dict[str, object]]) -> list[object]:
        return [fold["submission_fold_id"] for fold in folds]

    assert ids(two) == ids(everything)[-2:]
    assert all(str(number) in text for number in ids(two))
    assert f"These are the last 2 of {len(everything)}: see --limit." in text


def test_file_that_the_workflow_does_not_use_is_said(iris: Folder) -> None:
    # Given a submission with a calibrator, for a workflow without one
    iris.submission("more", {"classifier.py": DUMMY, "calibrator.py": DUMMY, "notes.txt": "!"})
    arguments = ("submit", "more", "--dataset", "iris", "--cv", "2", "--wait")

    # When it is submitted
    done = iris.run(*arguments)
    document = iris.json(*arguments)

    # Then it runs, and what is not used is said in a line
    assert done.returncode == 0
    first = done.stderr.splitlines()[0]
    assert first.startswith("Warning: calibrator.py: not an element of the workflow of iris@")
    assert document["tested"] == 2
    assert [f"Warning: {sentence}" for sentence in document["warnings"]] == [first]


def test_submission_is_held_to_the_limits_it_was_submitted_with(iris: Folder) -> None:
    # When a submission that sleeps is given two seconds
    done = iris.run(
        *("submit", "sleepy", "--dataset", "iris", "--cv", "2", "--wait"),
        *("--wall-seconds", "2", "--memory-bytes", "2000000000"),
    )

    # Then it is stopped after them
    assert done.returncode == 1
    assert "timeout: 2.0 s wall in train" in done.stdout


def test_fold_that_waits_for_an_unknown_data_set_says_so(iris: Folder) -> None:
    # Given a fold of a data set that does not exist
    with Client(iris.connection()["broker"]) as client:
        client.publish_fold(
            submission_fold_id=777_777,
            submission_id=777_777,
            dataset="nope",
            files={"classifier.py": DUMMY},
            train_is=[0, 1],
            test_is=[2],
        )

    # When it is shown
    wait_until(lambda: iris.run("folds", "show", "777777").returncode == 0, within=30)
    shown = iris.succeed("folds", "show", "777777")
    iris.succeed("folds", "cancel", "777777")

    # Then it says what it waits for
    assert "waits for data set 'nope', which nobody has published" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("submit", "dummy", "--dataset", "nowhere"), "nowhere"),
        (("submit", "nothing", "--dataset", "iris"), "no such file or folder"),
        (("data", "show", "nowhere"), "there is no data set 'nowhere'"),
        (("folds", "show", "999999"), "there is no fold 999999"),
        (("results", "ack", "999999"), "there is no result of fold 999999"),
        (("data", "publish", "x y", "iris.csv", "--target", "species"), "name"),
        (("data", "publish", "ghost", "ghost.csv", "--target", "a"), "no such file"),
        (("data", "publish", "a", "iris.csv"), "Error: --target: which column is to be predicted?"),
        (
            ("data", "publish", "b", "iris.csv", "--target", "species", "--workflow", "clasifier"),
            "Error: --workflow: 'clasifier' is no standard workflow",
        ),
        (("submit", "empty", "--dataset", "iris"), "Error: no file is in the folder empty"),
        (
            ("submit", "dummy", "--dataset", "iris", "--wall-seconds", "-1"),
            "Error: --wall-seconds: ",
        ),
        (
            ("submit", "dummy", "--dataset", "iris", "--wall-seconds", "0.001"),
            "Error: --wall-seconds: Input should be greater than or equal to 0.1",
        ),
        (
            ("submit", "misnamed", "--dataset", "iris"),
            "Error: classifier.py is missing; there is 'clasifier.py'. A submission to iris@",
        ),
        (("folds", "list", "--dataset", "typo"), "there is no data set 'typo'"),
        (("folds", "cancel", "--submission", "12345"), "there is no submission 12345"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_what_does_not_exist_is_named(
    iris: Folder, arguments: tuple[str, ...], sentence: str
) -> None:
    # When a command names something that is not there
    done = iris.run(*arguments)

    # Then it says so in a sentence
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status_counts_folds_by_state(iris: Folder) -> None:
    # Given folds that have ended, and one cancelled in vain
    iris.json("submit", "dummy", "--dataset", "iris", "--cv", "2", "--wait")
    with Client(iris.connection()["broker"]) as client:
        assert client.cancel([424_242]) == 0

    # When the status is shown
    text = iris.succeed("status")

    # Then they are counted, it says what it ignored, and the queues are empty
    assert "TESTED" in text
    assert "No verdict depends on them" in text
    assert iris.json("status")["folds"]["TESTED"] >= 2
    assert iris.json("status")["queues"]["datarun.folds.default"]["messages"] == 0


def test_tables_name_the_submission_beside_its_number(iris: Folder) -> None:
    # Given a submission in a folder, and one that was published without any name
    iris.submission("forest", {"classifier.py": DUMMY})
    submitted = iris.json("submit", "forest", "--dataset", "iris", "--cv", "2", "--wait")
    number = submitted["submission_id"]
    nameless = submitted["submission_fold_ids"][-1] + 1000
    fold = {"submission_id": 900, "dataset": "iris", "files": {"classifier.py": DUMMY}}
    with Client(iris.connection()["broker"]) as client:
        client.publish_fold(submission_fold_id=nameless, train_is=[0, 1], test_is=[2], **fold)
        list(client.follow([nameless], timeout=60))

    # When its folds and results are listed, in a terminal of 80 columns
    folds = iris.succeed("folds", "list", COLUMNS="80")
    results = iris.succeed("results", "new", COLUMNS="80")

    # Then each line has the name beside the number, where there is one
    for table in (folds, results):
        cells = [line.split()[:4] for line in table.splitlines()]
        assert [fold[1:] for fold in cells].count([str(number), "forest", "iris"]) == 2
        assert [str(nameless), "900", "-", "iris"] in cells

    # And so does a single fold, and what programs get
    shown = iris.succeed("folds", "show", str(submitted["submission_fold_ids"][0]))
    assert f"of submission {number} (forest) on iris" in shown
    listed = iris.json("folds", "list", "--submission", str(number))
    assert {fold["submission_name"] for fold in listed} == {"forest"}
    news = iris.json("results", "new")
    assert {result["submission_name"] for result in news} >= {"forest", None}
