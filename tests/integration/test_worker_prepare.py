"""The prepare worker on a real broker: data sets split, stored, announced, and failed."""

from __future__ import annotations

import hashlib
import io
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from broker.blobs import read_blob, write_blob
from schemas.datasets import Custom, HoldOut, Part
from schemas.events import DataFailed, DataReady
from schemas.messages import DataMessage, UploadedFile, UploadMessage
from schemas.states import Culprit, FailureKind, Role, Visibility
from schemas.topology import DATA_QUEUE, REASON_HEADER, SOURCE_HEADER, WORK
from schemas.wire import pack
from tests.support.deadline import wait_until
from tests.support.worker_rig import WorkerRig, rig

__all__ = ["rig"]

SLOW_SPLIT = """
import time

def prepare_data(raw_data_path):
    time.sleep(30)

def get_train_data(raw_data_path): ...
def get_test_data(raw_data_path): ...
def train_submission(module_path, X, y, train_indices): ...
def test_submission(trained_model, X, test_indices): ...
"""


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
    read_blob(rig.url, part.visibility, part.blob, target, size=part.size, sha256=part.sha256)
    target.seek(0)
    return np.load(target, allow_pickle=False)


def test_a_csv_is_split_and_its_test_labels_are_kept_apart(rig: WorkerRig):
    # Given a prepare worker and a large file, uploaded as a blob
    rig.worker(Role.PREPARE)
    content = iris_csv()
    size, sha256 = write_blob(rig.url, Visibility.RAW, "upload", content)
    upload = UploadedFile(size=size, sha256=sha256, blob="upload")

    # When the data message comes
    run_id = publish(rig, iris_message(files={}, uploads={"iris.csv": upload}))
    ready = rig.wait_for(DataReady)

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
        assert len(load(rig, part)) == 75

    # And each blob was told of before it was written
    told = {blob for upload in rig.of(UploadMessage) for _, blob in upload.blobs}
    assert {part.blob for part in manifest.parts} <= told
    assert {upload.owner for upload in rig.of(UploadMessage)} == {run_id}
    rig.stop_workers()
    assert rig.depth(DATA_QUEUE) == 0


def test_the_same_data_message_twice_gives_the_same_version(rig: WorkerRig):
    rig.worker(Role.PREPARE)

    publish(rig, iris_message())
    publish(rig, iris_message())
    wait_until(lambda: len(rig.of(DataReady)) == 2)

    first, second = rig.of(DataReady)
    assert first.manifest.version == second.manifest.version


def test_a_missing_target_column_is_the_organisers_and_the_worker_goes_on(rig: WorkerRig):
    rig.worker(Role.PREPARE)

    publish(rig, iris_message(name="wrong", target_column="kind"))
    failed = rig.wait_for(DataFailed)
    publish(rig, iris_message())
    rig.wait_for(DataReady)

    assert failed.name == "wrong"
    assert "kind" in failed.verdict.message


def test_an_upload_that_never_arrived_fails_after_a_few_tries(rig: WorkerRig):
    rig.worker(Role.PREPARE)
    upload = UploadedFile(size=3, sha256=hashlib.sha256(b"abc").hexdigest(), blob="missing")

    publish(rig, iris_message(files={}, uploads={"iris.csv": upload}))

    verdict = rig.wait_for(DataFailed).verdict
    assert verdict.culprit is Culprit.INFRASTRUCTURE
    assert verdict.kind is FailureKind.DATA
    assert "datarun.blob.raw.missing" in verdict.message


@pytest.mark.parametrize("body", [b"{}", b"nonsense"])
def test_a_malformed_data_message_goes_to_the_dead_letters(rig: WorkerRig, body: bytes):
    rig.worker(Role.PREPARE)

    rig.publish_bare(WORK, "data", body)
    publish(rig, iris_message())
    rig.wait_for(DataReady)

    (letter,) = rig.dead_letters()
    assert (letter.body, letter.headers[SOURCE_HEADER]) == (body, "data")
    assert letter.headers[REASON_HEADER]


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
