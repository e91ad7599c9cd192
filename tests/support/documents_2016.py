"""A running stack for the examples of the documents of 2016, and what their placeholders stand for.

The user is named `username` and the password is `password`, as in the documents; only the port,
the placeholders (`blablabla`, `bli`, `hgjhg`, ...) and slips of syntax are replaced in an example.
"""

from __future__ import annotations

import base64
import re
import subprocess
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
from sklearn.datasets import load_iris

from broker.private_node import NodeAddress
from tests.support.command import DATARUN, Folder, environment, given, stack_in
from tests.support.deadline import wait_until
from tests.support.rabbitmq import new_vhost

USER = ("username", "password")
N_TRAIN, N_TEST = 45, 105
"""Of the 150 rows of iris, with the documents' `"held_out_test": 0.7`."""

FOLD_FIELDS = {
    "databoard_sf_id",
    "databoard_s",
    "train_is",
    "test_is",
    "priority",
    "full_train_predictions",
    "test_predictions",
    "state",
    "log_messages",
    "train_time",
    "validation_time",
    "test_time",
    "train_cpu_time",
    "train_memory",
    "test_cpu_time",
    "test_memory",
    "new",
}
"""Of `runapp.models.SubmissionFold`, as the documents list them."""

ENDED = {"TESTED", "ERROR", "CANCELLED"}

CLASSIFIER = """
from sklearn.tree import DecisionTreeClassifier

class Classifier(DecisionTreeClassifier):
    pass
"""

SPECIFIC = """
import os
from importlib import import_module

import pandas as pd
from sklearn.model_selection import train_test_split


def prepare_data(raw_data_path):
    frame = pd.read_csv(os.path.join(raw_data_path, "iris.csv"))
    train, test = train_test_split(frame, test_size=0.7, random_state=57)
    train.to_csv(os.path.join(raw_data_path, "train.csv"), index=False)
    test.to_csv(os.path.join(raw_data_path, "test.csv"), index=False)


def get_train_data(raw_data_path):
    return read(raw_data_path, "train.csv")


def get_test_data(raw_data_path):
    return read(raw_data_path, "test.csv")


def read(raw_data_path, name):
    frame = pd.read_csv(os.path.join(raw_data_path, name))
    return frame.drop(columns="species").to_numpy(), frame["species"].to_numpy()


def train_submission(module_path, X, y, train_indices):
    model = import_module(".classifier", module_path).Classifier()
    return model.fit(X[train_indices], y[train_indices])


def test_submission(trained_model, X, test_indices):
    return trained_model.predict_proba(X[test_indices])
"""


def iris_csv() -> str:
    """A standard data file, as the 0.2 document shows it."""
    iris = load_iris(as_frame=True)
    frame = iris.data.set_axis([name.removesuffix(" (cm)") for name in iris.data.columns], axis=1)
    return str(frame.assign(species=iris.target_names[iris.target]).to_csv(index=False))


def encoded(content: bytes) -> str:
    """As the documents say: compressed with zlib, then base64-encoded."""
    return base64.b64encode(zlib.compress(content)).decode()


def encoded_rows(start: int, stop: int) -> str:
    """Indices as databoard sends them."""
    return encoded(np.arange(start, stop).tobytes())


def decoded_rows(text: str) -> np.ndarray:
    """The inverse."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=int)


def decoded_predictions(text: str) -> np.ndarray:
    """As databoard decodes them: all it knows is that they are floats."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=float)


class DocumentedGateway:
    """The gateway of a stack in a folder, which knows the documents' user."""

    def __init__(self, folder: Folder, url: str) -> None:
        self.folder = folder
        self.url = url

    def as_typed(self, example: str, replaced: dict[str, str] | None = None) -> str:
        """The example on one line, with the address of this gateway and real content."""
        text = re.sub(r"\s+", " ", example).strip()
        for placeholder, content in {
            "http://127.0.0.1:8000/": self.url,
            **(replaced or {}),
        }.items():
            assert placeholder in text, f"{placeholder!r} is not in the example"
            text = text.replace(placeholder, content)
        return text

    def get(self, call: str) -> Any:
        """What a call answers."""
        answer = requests.get(f"{self.url}runapp/{call}", auth=USER, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def post(self, call: str, body: dict[str, Any]) -> Any:
        """What a call answers."""
        answer = requests.post(f"{self.url}runapp/{call}", auth=USER, json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def data_set(self, raw_data_id: int) -> Any:
        """One element of GET rawdata/."""
        return next(data for data in self.get("rawdata/") if data["id"] == raw_data_id)

    def wait_until_split(self, raw_data_id: int) -> Any:
        """Until folds can run on it, or its split has failed."""
        return wait_until(
            lambda: (data := self.data_set(raw_data_id))["state"] in {"READY", "FAILED"} and data,
            within=90,
            what=f"the split of data set {raw_data_id}",
        )

    def wait_until_ended(self, fold_id: int) -> Any:
        """Until the fold has a verdict."""
        return wait_until(
            lambda: (fold := self.get(f"submissionfold/{fold_id}/"))["state"] in ENDED and fold,
            within=90,
            what=f"the end of fold {fold_id}",
        )

    def ended_fold(self, fold_id: int) -> Any:
        """A fold of that id on data set 1 that has ended; posted when there is none yet."""
        self.post("rawdata/split/", {"raw_data_id": 1, "held_out_test": 0.7, "random_state": 42})
        if fold_id not in {fold["databoard_sf_id"] for fold in self.get("submissionfold-light/")}:
            self.post(
                "submissionfold/",
                {
                    "databoard_sf_id": fold_id,
                    "databoard_s_id": 100 + fold_id,
                    "raw_data": 1,
                    "files": {"classifier.py": CLASSIFIER},
                    "train_is": encoded_rows(0, 30),
                    "test_is": encoded_rows(30, 45),
                },
            )
        return self.wait_until_ended(fold_id)


@pytest.fixture(scope="package")
def documented(
    rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DocumentedGateway]:
    """`datarun up`, with data set 1 (a CSV file) and data set 2 (with a python file) registered.

    For all files of tests/acceptance/of_2016, which use ids and names of their own.
    """
    folder = tmp_path_factory.mktemp("documented")
    with new_vhost(rabbitmq) as vhost, stack_in(folder, **given(vhost, folder)) as running:
        yield _documented(running)


def _documented(running: Folder) -> DocumentedGateway:
    username, password = USER
    subprocess.run(
        [*DATARUN, "users", "add", username, "--password-stdin"],
        cwd=running.path,
        env=environment(),
        input=password + "\n",
        text=True,
        timeout=60,
        check=True,
    )
    gateway = DocumentedGateway(running, str(running.json("status")["gateway"]["url"]))
    for number, files in enumerate(
        ({"iris.csv": iris_csv()}, {"iris.csv": iris_csv(), "specific.py": SPECIFIC}), start=1
    ):
        registered = gateway.post(
            "rawdata/",
            {
                "name": f"given_{number}",
                "target_column": "species",
                "workflow_elements": "classifier",
                "files": files,
            },
        )
        assert registered["id"] == number
    return gateway
