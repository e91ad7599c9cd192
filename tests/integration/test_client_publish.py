"""Publishing data sets and folds: what arrives, and what is refused at the client."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from broker.blobs import read_blob
from broker.private_node import NodeAddress
from datarun import Client, Custom, DataError, Dataset, FoldMessage, HoldOut, Limits, MessageError
from schemas.errors import ConfigurationError, FileError, TopologyError
from schemas.files import decoded
from schemas.messages import DataMessage, UploadMessage
from schemas.permissions import BrokerUser
from schemas.requests import DatasetRecord, DatasetsRequest
from schemas.states import DatasetState, Phase, Visibility
from schemas.topology import COLLECTOR_QUEUE, DATA_QUEUE, folds_queue
from schemas.wire import Envelope
from tests.support.rabbitmq import Vhost
from tests.support.scripted_collector import (
    CODE,
    VERSION,
    ScriptedCollector,
    a_dataset,
    a_verdict,
    declared_once,
    fold_arguments,
    wait_for,
)

__all__ = ["declared_once"]

CSV = "a,species\n1,x\n2,y\n"


def _ready(message: DataMessage, message_id: str) -> DatasetRecord:
    return a_dataset(message.name, message_id=message_id)


def test_publish_data_returns_the_version_that_became_ready(
    scripted_collector: ScriptedCollector, broker_url: str, tmp_path: Path
) -> None:
    # Given a collector that finds every data set ready, and a CSV file
    scripted_collector.on_data = _ready
    (tmp_path / "flowers.csv").write_text(CSV)

    # When it is published
    with Client(broker_url) as client:
        dataset = client.publish_data(
            "flowers",
            files=[tmp_path / "flowers.csv"],
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5, random_state=42),
            scoring=["accuracy"],
            timeout=20,
        )

    # Then its version is known, and the message says what was said
    assert (dataset.name, dataset.version) == ("flowers", VERSION)
    assert (dataset.n_train, dataset.n_test) == (6, 3)
    assert dataset.classes is not None
    assert dataset.classes.tolist() == ["a", "b"]
    (message,) = scripted_collector.messages(DataMessage)
    assert decoded(message.files) == {"flowers.csv": CSV.encode()}
    assert (message.target_column, message.scoring) == ("species", ("accuracy",))
    assert message.split == HoldOut(0.5, random_state=42)


def test_large_files_are_announced_then_uploaded_and_small_ones_stay_readable(
    scripted_collector: ScriptedCollector, broker_url: str, declared: Vhost, tmp_path: Path
) -> None:
    # Given an organiser's file, and data of 3 MB
    scripted_collector.on_data = _ready
    (tmp_path / "specific.py").write_text("def prepare_data(raw_data_path): ...\n")
    content = os.urandom(3_000_000)
    (tmp_path / "stars.csv.gz").write_bytes(content)

    # When the folder is published
    told: list[tuple[int, int]] = []
    with Client(broker_url) as client:
        client.publish_data(
            "stars",
            files=tmp_path,
            workflow_elements="feature_extractor, classifier",
            split=Custom("specific.py"),
            on_progress=lambda done, total: told.append((done, total)),
            timeout=20,
        )

    # Then the collector heard of the blob before the data set that owns it
    kinds = [type(message) for _, message in scripted_collector.received]
    assert kinds.index(UploadMessage) < kinds.index(DataMessage)
    (upload,) = scripted_collector.messages(UploadMessage)
    envelope: Envelope
    envelope, data = next(
        (envelope, message)
        for envelope, message in scripted_collector.received
        if isinstance(message, DataMessage)
    )
    assert upload.owner == envelope.message_id
    assert set(data.files) == {"specific.py"}
    stars = data.uploads["stars.csv.gz"]
    assert upload.blobs == ((Visibility.RAW, stars.blob),)
    # And the blob holds the file
    target = io.BytesIO()
    preparer = declared.logins.of(BrokerUser.PREPARER)
    read_blob(preparer, Visibility.RAW, stars.blob, target, size=stars.size, sha256=stars.sha256)
    assert target.getvalue() == content
    assert told[-1] == (3_000_000, 3_000_000)


def test_a_data_set_that_cannot_be_split_raises_with_its_verdict(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    verdict = a_verdict("there is no column 'species'", Phase.DATA)
    scripted_collector.on_data = lambda message, message_id: a_dataset(
        message.name,
        message_id=message_id,
        state=DatasetState.FAILED,
        version=None,
        n_train=None,
        n_test=None,
        classes=None,
        verdict=verdict,
    )
    with (
        Client(broker_url) as client,
        pytest.raises(DataError, match="there is no column 'species'") as caught,
    ):
        client.publish_data(
            "flowers",
            files={"f.csv": CSV},
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=20,
        )
    assert caught.value.verdict == verdict


def test_an_outcome_whose_announcement_was_lost_is_asked_for(
    scripted_collector: ScriptedCollector, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.data_publication.ASK_AGAIN_SECONDS", 0.5)

    # Given a collector whose data set becomes ready without a word on datarun.results
    def silently_ready(message: DataMessage, message_id: str) -> None:
        scripted_collector.datasets[message.name] = _ready(message, message_id)

    scripted_collector.on_data = silently_ready

    with Client(broker_url) as client:
        dataset = client.publish_data(
            "flowers",
            files={"f.csv": CSV},
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=30,
        )
    assert dataset.version == VERSION


def test_a_data_set_that_nobody_prepares_names_the_command(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    with (
        Client(broker_url) as client,
        pytest.raises(TimeoutError, match=r"'flowers'.*datarun worker --role prepare"),
    ):
        client.publish_data(
            "flowers",
            files={"f.csv": CSV},
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=0.3,
        )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "no spaces"}, "name"),
        ({"target_column": None}, "target_column"),
        ({"files": {"a.csv": CSV, "b.csv": CSV}}, "one CSV file, not 2"),
        ({"workflow_elements": "magic"}, "'magic' is no standard workflow"),
        ({"files": {}}, "no file"),
        ({"split": Custom("other.py"), "workflow_elements": "x"}, "'other.py' is not among"),
        ({"split": 0.5}, "split"),
    ],
)
def test_a_data_set_that_cannot_be_right_is_refused_before_anything_is_sent(
    scripted_collector: ScriptedCollector, broker_url: str, changes: dict[str, Any], says: str
) -> None:
    arguments: dict[str, Any] = {
        "name": "flowers",
        "files": {"f.csv": CSV},
        "target_column": "species",
        "workflow_elements": "classifier",
        "split": HoldOut(0.5),
    }
    with Client(broker_url) as client, pytest.raises(MessageError, match=says):
        client.publish_data(**arguments | changes)

    assert scripted_collector.received == []


def test_publish_fold_pins_the_newest_version_and_returns_the_run_id(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    with Client(broker_url) as client:
        run_id = client.publish_fold(
            **fold_arguments(
                priority="H", limits={"wall_seconds": 5}, params={"note": [1]}, force=True
            )
        )

    (message,) = wait_for(scripted_collector, FoldMessage)
    envelope = next(e for e, m in scripted_collector.received if isinstance(m, FoldMessage))
    assert envelope.message_id == run_id
    assert envelope.priority == 5
    assert message.dataset == f"iris@{VERSION}"
    assert message.train_is.to_numpy().tolist() == [0, 1, 2, 3]
    assert message.limits == Limits(wall_seconds=5)
    assert (message.params, message.force) == ({"note": [1]}, True)


@pytest.mark.parametrize(
    "rows",
    [
        (0, 1, 2),
        range(3),
        np.array([0, 1, 2], dtype=np.uint8),
        np.array([0, 1, 2], dtype=">i8"),
        pd.Series([0, 1, 2]),
        pd.Index([0, 1, 2]),
    ],
)
def test_row_numbers_may_be_any_sequence_of_integers(
    scripted_collector: ScriptedCollector, broker_url: str, rows: Any
) -> None:
    with Client(broker_url) as client:
        client.publish_fold(**fold_arguments(np.int64(3), train_is=rows))

    (message,) = wait_for(scripted_collector, FoldMessage)
    assert message.submission_fold_id == 3
    assert message.train_is.to_numpy().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_is": [0, 6]}, r"train_is: index 6 is out of range.*6 training rows, 0 to 5"),
        ({"test_is": [-1]}, r"test_is: index -1 is negative"),
        ({"test_is": [3, 3]}, r"test_is: index 3 is repeated"),
        ({"test_is": []}, r"test_is: indices are empty"),
        ({"train_is": [0.0, 1.0]}, r"train_is: indices are integers"),
        ({"train_is": [[0], [1]]}, r"train_is: indices have one dimension"),
        ({"train_is": [True, False]}, r"train_is: a mask of booleans.*flatnonzero"),
        ({"train_is": [[0], [1, 2]]}, r"train_is"),
        ({"train_is": 3}, r"train_is"),
        ({"train_is": ["a"]}, r"train_is: indices are integers"),
        ({"train_is": [2**70]}, r"train_is"),
        ({"submission_fold_id": -1}, r"submission_fold_id"),
        ({"submission_fold_id": "11"}, r"submission_fold_id: '11' is not an integer"),
        ({"submission_id": True}, r"submission_id: True is not an integer"),
        ({"submission_id": 2**63}, r"submission_id"),
        ({"dataset": "no spaces"}, r"dataset: 'no spaces'"),
        ({"dataset": "iris@ffffffffffffffff"}, r"there is no data set iris@ffffffffffffffff"),
        ({"files": {}}, r"no file"),
        ({"files": {"../x.py": CODE}}, r"'../x.py' is not a plain file name"),
        ({"files": ["nowhere.py"]}, r"no such file"),
        ({"priority": "M"}, r"priority"),
        ({"pool": "a b"}, r"pool"),
        ({"limits": {"wall_seconds": -1}}, r"limits: wall_seconds"),
        ({"params": {"x": float("nan")}}, r"params"),
    ],
)
def test_a_fold_that_cannot_be_right_is_a_value_error_that_names_the_fault(
    scripted_collector: ScriptedCollector, broker_url: str, changes: dict[str, Any], says: str
) -> None:
    with Client(broker_url) as client, pytest.raises(ValueError, match=says) as caught:
        client.publish_fold(**fold_arguments(**changes))

    assert isinstance(caught.value, MessageError)
    assert scripted_collector.messages(FoldMessage) == []


def test_a_pool_without_a_queue_is_refused_although_the_broker_would_take_it(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    with (
        Client(broker_url) as client,
        pytest.raises(TopologyError, match=r"pool 'gpu' has no queue.*datarun broker setup"),
    ):
        client.publish_fold(**fold_arguments(pool="gpu"))

    assert scripted_collector.messages(FoldMessage) == []


def test_a_fold_for_a_data_set_not_yet_ready_goes_out_unpinned_and_waits(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    with Client(broker_url) as client:
        client.publish_fold(**fold_arguments(dataset="soon", train_is=[999]))

    (message,) = wait_for(scripted_collector, FoldMessage)
    assert message.dataset == "soon"


def test_a_data_set_object_needs_no_question(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    scripted_collector.on_data = _ready
    with Client(broker_url) as client:
        dataset = client.publish_data(
            "flowers",
            files={"f.csv": CSV},
            target_column="species",
            workflow_elements="classifier",
            split=HoldOut(0.5),
            timeout=20,
        )
        asked = len(scripted_collector.messages(DatasetsRequest))
        client.publish_fold(**fold_arguments(dataset="flowers"))
        with pytest.raises(MessageError, match="index 6 is out of range"):
            client.publish_fold(**fold_arguments(dataset=dataset, train_is=[6]))

    assert len(scripted_collector.messages(DatasetsRequest)) <= asked + 1


def test_folds_can_be_published_while_the_collector_is_away(
    broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a broker without a collector
    with Client(broker_url, timeout=0.5) as client, caplog.at_level(logging.WARNING):
        # When a fold is published
        client.publish_fold(**fold_arguments())

        # Then it waits in its queue, and a warning says that it is not pinned
        depths = client.queue_depths([folds_queue("default"), COLLECTOR_QUEUE, "nowhere"])
    assert depths[folds_queue("default")].messages == 1  # type: ignore[union-attr]
    assert depths["nowhere"] is None
    assert "without a check" in caplog.text


def test_many_folds_are_published_in_order_with_one_question(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    with Client(broker_url) as client:
        run_ids = client.publish_folds(fold_arguments(number) for number in range(500))

    wait_for(scripted_collector, FoldMessage, 500)
    arrived = [
        (envelope.message_id, message.submission_fold_id)
        for envelope, message in scripted_collector.received
        if isinstance(message, FoldMessage)
    ]
    assert arrived == list(zip(run_ids, range(500), strict=True))
    assert len(scripted_collector.messages(DatasetsRequest)) == 1


def test_a_wrong_fold_among_many_leaves_those_before_it_published_and_says_so(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    folds = [*map(fold_arguments, range(2)), fold_arguments(2, train_is=[77]), fold_arguments(3)]

    with Client(broker_url) as client, pytest.raises(MessageError, match="index 77") as caught:
        client.publish_folds(folds)

    assert caught.value.__notes__ == ["2 folds before this one are published"]
    published = wait_for(scripted_collector, FoldMessage, 2)
    assert [message.submission_fold_id for message in published] == [0, 1]


def test_a_fold_message_made_elsewhere_is_checked_and_pinned_too(
    scripted_collector: ScriptedCollector, broker_url: str
) -> None:
    message = FoldMessage(**fold_arguments())
    with Client(broker_url) as client:
        client.publish_folds([message])
        with pytest.raises(MessageError, match="index 9"):
            client.publish_folds([message.model_copy(update={"test_is": _array([9])})])

    (arrived,) = wait_for(scripted_collector, FoldMessage)
    assert arrived.dataset == f"iris@{VERSION}"


def test_files_that_are_too_large_for_one_message_are_refused_with_their_sizes(
    broker_url: str,
) -> None:
    with Client(broker_url) as client, pytest.raises(FileError, match=r"'big.bin' with 9000000"):
        client.publish_fold(
            **fold_arguments(files={"big.bin": b"x" * 9_000_000, "classifier.py": CODE})
        )


def test_the_broker_is_found_in_the_connection_file_above_the_current_folder(
    broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a .datarun/connection.toml two folders up, and no setting
    monkeypatch.delenv("DATARUN_BROKER", raising=False)
    monkeypatch.delenv("DATARUN_HOME", raising=False)
    (tmp_path / ".datarun").mkdir()
    (tmp_path / ".datarun" / "connection.toml").write_text(f'broker = "{broker_url}"\n')
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")

    with Client() as client:
        assert client.queue_depths([DATA_QUEUE])[DATA_QUEUE] is not None


def test_the_environment_names_the_broker_before_the_connection_file(
    broker_url: str, rabbitmq: NodeAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATARUN_BROKER", broker_url)
    with Client() as client:
        assert client.queue_depths([DATA_QUEUE])[DATA_QUEUE] is not None


def test_without_any_setting_the_error_says_how_to_get_a_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATARUN_BROKER", raising=False)
    monkeypatch.setenv("DATARUN_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="datarun up"):
        Client()


def test_a_dataset_prints_as_its_reference() -> None:
    assert str(Dataset("iris", VERSION, 6, 3, None)) == f"iris@{VERSION}"


def _array(rows: list[int]) -> Any:
    return FoldMessage(**fold_arguments(test_is=rows)).test_is
