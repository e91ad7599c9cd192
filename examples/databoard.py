"""What databoard does with datarun, written twice: over REST, and over messages.

    datarun up --detach
    python examples/databoard.py rest
    python examples/databoard.py messages

Run it in the folder of that stack, or in one below.

A data challenge has a data set, submissions, and one cross-validation that all submissions share.
databoard sends the data set once, then every submission on every fold; it collects what they
predicted, and scores that itself: it has the labels, which datarun shows to no submission.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold, train_test_split

from datarun import Client, DatarunError, HoldOut, post_api

SUBMISSIONS = sorted(Path(__file__).with_name("submissions").iterdir())
DATARUN = [sys.executable, "-m", "datarun"]
HELD_OUT_TEST, RANDOM_STATE, N_FOLDS = 0.2, 42, 3


@dataclass(frozen=True)
class Challenge:
    """The data set, cut as datarun cuts it, so that rows have the same numbers on both sides."""

    csv: Path
    y_train: np.ndarray
    y_test: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Outcome:
    """What came back for one fold; predictions are probabilities, (n_rows, n_classes)."""

    fold_id: int
    state: str
    log_messages: str
    classes: np.ndarray | None = None
    full_train_predictions: np.ndarray | None = None
    test_predictions: np.ndarray | None = None
    train_time: float | None = None


def prepare(folder: Path) -> Challenge:
    """Write iris as a CSV file, and choose the folds."""
    iris = load_iris(as_frame=True)
    frame = iris.data.assign(species=iris.target_names[iris.target])
    frame.to_csv(folder / "iris.csv", index=False)
    train, test = train_test_split(frame, test_size=HELD_OUT_TEST, random_state=RANDOM_STATE)
    y_train, y_test = train["species"].to_numpy(), test["species"].to_numpy()
    cv = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    return Challenge(folder / "iris.csv", y_train, y_test, list(cv.split(y_train, y_train)))


def over_rest(challenge: Challenge) -> Iterator[Outcome]:
    """The 2016 way: functions of `post_api`, and asking again until everything is there."""
    gateway = login()

    # A name is taken once. When an earlier run of this program took it, the data set is there.
    sent = post_api.post_data(*gateway, "iris_rest", "species", "classifier", challenge.csv)
    known = {data["name"]: data["id"] for data in ok(post_api.get_raw_data(*gateway))}
    raw_data_id = known["iris_rest"] if "iris_rest" in known else ok(sent)["id"]

    # Folds need not wait for the split: those that come early are kept until it is done.
    ok(post_api.post_split(*gateway, HELD_OUT_TEST, raw_data_id, RANDOM_STATE))

    missing = set()
    # Ids that are nobody else's: `force`, below, replaces what has them.
    for submission_id, submission in enumerate(SUBMISSIONS, start=2001):
        for number, (train_is, test_is) in enumerate(challenge.folds):
            fold_id = 2000 + 10 * (submission_id - 2000) + number
            # The first fold brings the submission's files, and the others inherit them. `force`
            # lets this program run again with the same ids: new files, and each fold a new run.
            brings = number == 0
            ok(
                post_api.post_submission_fold(
                    *gateway,
                    submission_id,
                    fold_id,
                    train_is,
                    test_is,
                    priority="H",
                    raw_data_id=raw_data_id if brings else None,
                    list_submission_files=sorted(submission.iterdir()) if brings else None,
                    force="submission, submission_fold" if brings else "submission_fold",
                )
            )
            missing.add(fold_id)

    while missing:
        # Of its own folds, those that have ended. `get_prediction_new` would take note of other
        # programs' results as well, and they would no longer be new for those.
        for fold in ok(post_api.get_prediction_list(*gateway, sorted(missing))):
            missing.remove(fold["databoard_sf_id"])
            yield Outcome(
                fold["databoard_sf_id"],
                fold["state"],
                fold["log_messages"],
                np.array(fold["classes"]),
                predictions(fold, "full_train_predictions"),
                predictions(fold, "test_predictions"),
                fold["train_time"],
            )
        time.sleep(0.5)


def over_messages(challenge: Challenge) -> Iterator[Outcome]:
    """The same over RabbitMQ: nobody asks again and again, results come as they are stored."""
    with Client() as client:
        iris = client.publish_data(
            "iris_messages",
            files=challenge.csv,
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(HELD_OUT_TEST, RANDOM_STATE),
        )
        folds = [
            {
                "submission_fold_id": 1000 + 10 * submission_id + number,
                "submission_id": 1000 + submission_id,
                "dataset": iris,
                "files": submission,
                "train_is": train_is,
                "test_is": test_is,
                "priority": "H",
                "force": True,
            }
            for submission_id, submission in enumerate(SUBMISSIONS, start=1)
            for number, (train_is, test_is) in enumerate(challenge.folds)
        ]
        client.publish_folds(folds)
        for result in client.follow(fold["submission_fold_id"] for fold in folds):
            yield Outcome(
                result.submission_fold_id,
                result.state,
                result.log_messages,
                result.classes,
                result.full_train_predictions,
                result.test_predictions,
                result.train_time,
            )
            # Only now: had this program died before, the result would still be new.
            result.acknowledge()


def show(challenge: Challenge, outcomes: Iterator[Outcome]) -> None:
    """Score every fold as it comes, and print a line for each."""
    head = f"{'fold':>5}  {'submission':<11} {'state':<7} {'validation':>10} {'test':>6}  training"
    for count, outcome in enumerate(outcomes):
        if count == 0:  # only now is it known that there is a stack
            print(head)
        submission_id, number = divmod(outcome.fold_id % 1000, 10)
        line = f"{outcome.fold_id:>5}  {SUBMISSIONS[submission_id - 1].name:<11} {outcome.state:<7}"
        if outcome.state == "TESTED":
            test_is = challenge.folds[number][1]
            guessed = outcome.classes[outcome.full_train_predictions.argmax(axis=1)]
            valid = np.mean(guessed[test_is] == challenge.y_train[test_is])
            guessed = outcome.classes[outcome.test_predictions.argmax(axis=1)]
            test = np.mean(guessed == challenge.y_test)
            print(f"{line} {valid:>10.3f} {test:>6.3f}  {outcome.train_time:.3f} s")
        else:
            # The last two lines: what happened, and in which phase, as databoard looks for it.
            print(line, "-", " - ".join(outcome.log_messages.splitlines()[-2:]))


def login() -> list[str]:
    """URL, user and password of the gateway of the stack that runs here."""
    done = subprocess.run(
        [*DATARUN, "status", "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    answer = json.loads(done.stdout or "{}")
    if done.returncode != 0:
        sys.exit(answer.get("error", "`datarun status --json` failed"))
    gateway = answer["gateway"] or {}
    if not {"url", "username", "password"} <= set(gateway):
        sys.exit("no user of the gateway is known here: run this where `datarun up` was run")
    return [gateway["url"], gateway["username"], gateway["password"]]


def predictions(fold: dict[str, Any], name: str) -> np.ndarray | None:
    """Predictions as they leave the REST interface: base64(zlib(float64)), with their shape."""
    if fold[name] is None:
        return None
    raw = zlib.decompress(base64.b64decode(fold[name]))
    return np.frombuffer(raw, fold["dtype"][name]).reshape(fold["shape"][name])


def ok(response: Any) -> Any:
    """The answer's content; what was refused ends the program with the reason."""
    if not response.ok:
        sys.exit(f"{response.url}: {response.status_code} {response.text}")
    return response.json()


WAYS: dict[str, Callable[[Challenge], Iterator[Outcome]]] = {
    "rest": over_rest,
    "messages": over_messages,
}

if __name__ == "__main__":
    if sys.argv[1:2] not in [[way] for way in WAYS]:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        challenge = prepare(Path(folder))
        try:
            show(challenge, WAYS[sys.argv[1]](challenge))
        except DatarunError as error:
            sys.exit(str(error))
