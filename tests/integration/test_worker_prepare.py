"""The prepare worker on a real broker: data sets split, stored, announced, and failed."""

from __future__ import annotations

import hashlib
import io
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from broker.blobs import read_blob, write_blob
from broker.private_node import NodeAddress
from schemas.datasets import Custom, HoldOut, Part
from schemas.events import DataFailed, DataReady
from schemas.messages import DataMessage, UploadedFile, UploadMessage
from schemas.permissions import BrokerUser
from schemas.states import Culprit, FailureKind, Role, Visibility
from schemas.topology import DATA_QUEUE, REASON_HEADER, SOURCE_HEADER, WORK
from schemas.wire import pack
from tests.support.deadline import wait_until
from tests.support.rabbitmq import new_vhost
from tests.support.worker_rig import WorkerRig, rig

__all__ = ["rig"]

E = TypeVar("E", DataReady, DataFailed)

SLOW_SPLIT = """
import time

def prepare_data(raw_data_path):
    time.sleep(30)

def get_train_data(raw_data_path): ...
def get_test_data(raw_data_path): ...
def train_submission(module_path, X, y, train_indices): ...
def test_submission(trained_model, X, test_indices): ...
"""


@pytest.fixture(scope="module")
def shared(rabbitmq: NodeAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerRig]:
    """One worker for all tests that need no more than that."""
    folder = tmp_path_factory.mktemp("rig")
    with new_vhost(rabbitmq) as vhost, closing(WorkerRig(vhost, folder)) as rig:
        rig.worker(Role.PREPARE)
        yield rig


def iris_csv() -> bytes:
    X, y = load_iris(return_X_y=True)
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    frame["species"] = np.array(["setosa", "versicolor", "virginica"])[y]
    return frame.to_csv(index=False).encode()


def iris_message(**changes: object) -> DataMessage:
    fields = {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"iris.csv": iris_csv().decode()},
        "split": HoldOut(0.5, random_state=42),
    }
    return DataMessage.model_validate(fields | changes)


def publish(rig: WorkerRig, message: DataMessage) -> str:
    envelope = pack(message, "data")
    rig.publish(WORK, envelope)
    return envelope.run_id


def load(rig: WorkerRig, part: Part) -> np.ndarray:
    target = io.BytesIO()
    secret = part.visibility is Visibility.SECRET
    url = rig.vhost.logins.of(BrokerUser.COLLECTOR if secret else BrokerUser.WORKER)
    read_blob(url, part.visibility, part.blob, target, size=part.size, sha256=part.sha256)
    target.seek(0)
    return np.load(target, allow_pickle=False)


def outcome(rig: WorkerRig, kind: type[E], run_id: str) -> E:
    """What the worker says of a data message in the end."""
    return wait_until(
        lambda: [event for event in rig.of(kind) if event.message_id == run_id],
        within=30,
        what=f"{kind.__name__} of {run_id}",
    )[0]


def test_a_csv_is_split_and_its_test_labels_are_kept_apart(shared: WorkerRig):
    # Given a prepare worker and a large file, uploaded as a blob
    content = iris_csv()
    producer = shared.vhost.logins.of(BrokerUser.PRODUCER)
    size, sha256 = write_blob(producer, Visibility.RAW, "upload", content)
    upload = UploadedFile(size=size, sha256=sha256, blob="upload")

    # When the data message comes
    run_id = publish(shared, iris_message(files={}, uploads={"iris.csv": upload}))
    ready = outcome(shared, DataReady, run_id)

    # Then the manifest describes the split, and says whose it is
    manifest = ready.manifest
    assert (ready.message_id, manifest.name) == (run_id, "iris")
    assert (manifest.n_train, manifest.n_test) == (75, 75)
    assert manifest.classes is not None
    assert list(manifest.classes.to_numpy()) == ["setosa", "versicolor", "virginica"]

    # And every part is stored, y_test alone as a secret
    visibilities = {part.name: part.visibility for part in manifest.parts}
    assert {name for name, seen in visibilities.items() if seen is Visibility.SECRET} == {"y_test"}
    for part in manifest.parts:
        assert len(load(shared, part)) == 75

    # And each blob was told of before it was written
    uploads = [upload for upload in shared.of(UploadMessage) if upload.owner == run_id]
    told = {blob for upload in uploads for _, blob in upload.blobs}
    assert {part.blob for part in manifest.parts} <= told


def test_the_same_data_message_twice_gives_the_same_version(shared: WorkerRig):
    run_ids = [publish(shared, iris_message()) for _ in range(2)]

    first, second = (outcome(shared, DataReady, run_id) for run_id in run_ids)
    assert first.manifest.version == second.manifest.version


def test_a_missing_target_column_is_the_organisers_and_the_worker_goes_on(shared: WorkerRig):
    wrong = publish(shared, iris_message(name="wrong", target_column="kind"))
    failed = outcome(shared, DataFailed, wrong)
    outcome(shared, DataReady, publish(shared, iris_message()))

    assert failed.name == "wrong"
    assert "kind" in failed.verdict.message


def test_an_upload_that_never_arrived_fails_after_a_few_tries(shared: WorkerRig):
    upload = UploadedFile(size=3, sha256=hashlib.sha256(b"abc").hexdigest(), blob="missing")

    run_id = publish(shared, iris_message(files={}, uploads={"iris.csv": upload}))

    verdict = outcome(shared, DataFailed, run_id).verdict
    assert verdict.culprit is Culprit.INFRASTRUCTURE
    assert verdict.kind is FailureKind.DATA
    assert "datarun.blob.raw.missing" in verdict.message


def test_malformed_data_messages_go_to_the_dead_letters(shared: WorkerRig):
    bodies = [b"{}", b"nonsense"]
    for body in bodies:
        shared.publish_bare(WORK, "data", body)
    outcome(shared, DataReady, publish(shared, iris_message()))

    letters = shared.dead_letters()
    assert [letter.body for letter in letters] == bodies
    for letter in letters:
        assert letter.headers[SOURCE_HEADER] == "data"
        assert letter.headers[REASON_HEADER]


def test_when_the_worker_has_stopped_no_message_of_all_these_is_left(shared: WorkerRig):
    shared.stop_workers()

    assert shared.depth(DATA_QUEUE) == 0


def test_a_prepare_worker_killed_in_the_middle_and_the_next_one_does_it(
    rig: WorkerRig, tmp_path: Path
):
    # Given a data set whose first preparation takes for ever
    first_time = tmp_path / "first-time"
    first_time.touch()
    slow_once = SLOW_SPLIT.replace(
        "time.sleep(30)",
        f"""
    import os
    if os.path.exists({str(first_time)!r}):
        os.remove({str(first_time)!r})
        time.sleep(30)
    raise ValueError("the second time")
    """.strip(),
    )
    message = iris_message(files={"own.py": slow_once}, target_column=None, split=Custom("own.py"))
    worker = rig.worker(Role.PREPARE)
    publish(rig, message)
    wait_until(lambda: not first_time.exists())

    # When the worker is killed
    worker.kill()
    rig.worker(Role.PREPARE)

    # Then the next one prepares it, and removes what the killed one left on the disk
    assert "the second time" in str(rig.wait_for(DataFailed).verdict)
    assert len(list((tmp_path / "scratch").glob("*.lock"))) == 1


def test_two_signals_give_the_data_message_back(rig: WorkerRig, tmp_path: Path):
    rig_file = tmp_path / "started"
    code = SLOW_SPLIT.replace("time.sleep(30)", f"open({str(rig_file)!r}, 'w'); time.sleep(30)")
    worker = rig.worker(Role.PREPARE)
    publish(rig, iris_message(files={"own.py": code}, target_column=None, split=Custom("own.py")))
    wait_until(rig_file.exists)

    worker.signal()
    wait_until(lambda: worker.says("worker_stopping"))
    worker.signal(signal.SIGINT)

    assert worker.wait_stopped() == 0
    assert rig.depth(DATA_QUEUE) == 1
    assert not rig.of(DataFailed)
