"""Data sets: versions, blobs that nothing needs any more, what is repeated to the workers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from schemas.control import DatasetAnnounced, DatasetWithdrawn, RunCancelled
from schemas.datasets import Manifest
from schemas.events import DataFailed
from schemas.frozen import Message
from schemas.messages import CancelMessage, UploadMessage
from schemas.requests import DatasetRecord, DatasetsReply, DatasetsRequest
from schemas.results import DatasetResult
from schemas.states import Culprit, DatasetState, FailureKind, Phase, Visibility
from schemas.verdicts import Verdict
from storage import upkeep
from storage.datasets import NoLabels
from storage.engine import transaction
from storage.models import Blob
from tests.support import messages as m
from tests.support.store import Store

VERDICT = Verdict(
    phase=Phase.DATA,
    kind=FailureKind.DATA,
    culprit=Culprit.ORGANISER,
    message="data: iris.csv has no column 'species'",
)


def test_a_prepared_data_set_is_ready_and_announced(store: Store) -> None:
    store.prepare_iris()

    published = store.published()
    assert [(exchange, type(message)) for exchange, message in published] == [
        ("datarun.control", DatasetAnnounced),
        ("datarun.results", DatasetResult),
    ]
    assert published[0][1].manifest == m.manifest()
    assert published[0][1].newest
    (record,) = records(store, DatasetsRequest(name="iris"))
    assert record.state is DatasetState.READY
    assert record.version == m.manifest().version
    assert (record.n_train, record.n_test) == (m.N_TRAIN, m.N_TEST)


def test_uploads_and_the_blobs_of_failed_attempts_are_deleted(store: Store) -> None:
    # Given an upload, a first attempt to prepare it that died, and a second one
    upload = UploadMessage(owner="d1", blobs=((Visibility.RAW, "upload"),))
    store.take(m.from_client(upload, "upload"))
    store.take(m.from_client(m.data_message(), "data", message_id="d1"))
    for attempt in ("dead", "a"):
        for part in m.manifest(blobs=attempt).parts:
            announced = UploadMessage(owner="d1", blobs=((part.visibility, part.blob),))
            store.take(m.from_worker(announced, "upload"))
    assert doomed(store) == set()

    # When the second one has prepared the data set
    store.take(m.data_ready("d1"), labels={"d1": m.labels()})

    # Then all but its parts are deleted
    dead = {part.blob for part in m.manifest(blobs="dead").parts}
    assert doomed(store) == {"upload"} | dead


def test_the_same_version_prepared_again_keeps_the_blobs_of_the_first(store: Store) -> None:
    # Given a version that is ready
    store.prepare_iris("d1", blobs="a")
    store.forget_published()

    # When the same data are published again, and prepared into other blobs
    store.prepare_iris("d2", blobs="b")

    # Then what is announced is where the first parts are, and the new ones are deleted
    ((_, announced),) = store.published(DatasetAnnounced)
    assert announced.manifest == m.manifest(blobs="a")
    assert doomed(store) == {part.blob for part in m.manifest(blobs="b").parts}


def test_a_report_of_a_data_set_that_has_ended_changes_nothing(store: Store) -> None:
    # Given a data set that is ready
    store.prepare_iris("d1")
    store.forget_published()

    # When an attempt that was believed dead reports another version of it
    late = m.manifest(blobs="late", n_train=5)
    store.take(m.from_worker(UploadMessage(owner="d1", blobs=blobs_of(late)), "upload"))
    store.take(m.data_ready("d1", late))

    # Then the first report stands, nothing is announced, and the late blobs are deleted
    (record,) = records(store, DatasetsRequest(message_id="d1"))
    assert record.version == m.manifest().version
    assert store.published() == []
    assert doomed(store) == {part.blob for part in late.parts}


def test_a_data_set_that_cannot_be_prepared_has_its_verdict(store: Store) -> None:
    # Given a version that is ready, and a later message
    store.prepare_iris("d1")
    store.take(m.from_client(m.data_message(), "data", message_id="d2"))
    store.forget_published()

    # When preparing the later one fails
    failed = DataFailed(message_id="d2", name="iris", worker="p", at=m.START, verdict=VERDICT)
    store.take(m.from_worker(failed))

    # Then it says why, and the version that is ready stays
    (record,) = records(store, DatasetsRequest(message_id="d2"))
    assert record.state is DatasetState.FAILED
    assert record.verdict == VERDICT
    assert record.log_messages.endswith("ERROR(split data)")
    ((_, announced),) = store.published(DatasetAnnounced)
    assert announced.manifest is None
    assert announced.newest
    states = [found.state for found in records(store, DatasetsRequest(name="iris"))]
    assert states == [DatasetState.READY, DatasetState.FAILED]


def test_labels_that_cannot_be_fetched_fail_the_data_set(store: Store) -> None:
    store.take(m.from_client(m.data_message(), "data", message_id="d1"))

    store.take(m.data_ready("d1"), labels={"d1": NoLabels("y_test is altered")})

    (record,) = records(store, DatasetsRequest(message_id="d1"))
    assert record.verdict is not None
    assert record.verdict.culprit is Culprit.INFRASTRUCTURE
    assert "y_test is altered" in record.verdict.message


def test_an_unreadable_data_message_fails_its_data_set(store: Store) -> None:
    # Given a data message without a split
    envelope = m.from_client(m.data_message(), "data", message_id="d1")
    bad = replace(envelope, body=b'{"name": "iris", "workflow_elements": "classifier"}')

    # When it is published
    store.take(bad)

    # Then whoever waits for it hears what was wrong with it
    (record,) = records(store, DatasetsRequest(message_id="d1"))
    assert record.state is DatasetState.FAILED
    assert record.verdict is not None
    assert record.verdict.culprit is Culprit.PUBLISHER
    assert "split: Field required" in record.verdict.message


def test_a_superseded_version_is_withdrawn_when_no_fold_needs_it(store: Store) -> None:
    # Given an old version that a fold still waits for, and a newer one
    old, new = m.manifest(), m.manifest(blobs="b", n_test=m.N_TEST, columns=("width",))
    store.prepare_iris("d1")
    store.take(m.fold(run_id="r1", dataset=old.reference))
    store.prepare_iris("d2", blobs="b", columns=("width",))
    store.forget_published()

    # When it is looked for while the fold waits, and again when the fold has ended
    withdraw(store)
    assert store.published() == []
    store.take(m.failure("r1"))
    store.forget_published()
    withdraw(store)

    # Then it is withdrawn, its blobs are deleted, and the newer one stays
    ((_, withdrawn),) = store.published()
    assert withdrawn == DatasetWithdrawn(name="iris", version=old.version)
    assert doomed(store) == {part.blob for part in old.parts}
    (record,) = records(store, DatasetsRequest(name="iris"))
    assert record.version == new.version


def test_the_former_version_published_again_is_the_newest(store: Store) -> None:
    store.prepare_iris("d1")
    store.prepare_iris("d2", blobs="b", columns=("width",))
    store.prepare_iris("d3", blobs="c")
    store.forget_published()

    newest = {a.manifest.version: a.newest for a in repeated(store, DatasetAnnounced)}

    assert newest == {
        m.manifest().version: True,
        m.manifest(columns=("width",)).version: False,
    }


def test_the_current_state_is_repeated(store: Store) -> None:
    # Given a version, a data set that failed, and a cancelled fold
    store.prepare_iris("d1")
    store.take(m.from_client(m.data_message("stars"), "data", message_id="d2"))
    failed = DataFailed(message_id="d2", name="stars", worker="p", at=m.START, verdict=VERDICT)
    store.take(m.from_worker(failed))
    store.take(m.fold(run_id="r1"))
    store.take(m.from_client(CancelMessage(submission_fold_ids=(11,)), "cancel"))
    store.forget_published()

    # When a collector starts
    announced = repeated(store, DatasetAnnounced)

    # Then a worker that reads only this knows them all
    assert [(a.name, a.manifest is None) for a in announced] == [("iris", False), ("stars", True)]
    assert [stop.run_id for _, stop in store.published(RunCancelled)] == ["r1"]


def test_an_upload_without_data_message_is_deleted_after_a_day(store: Store) -> None:
    upload = UploadMessage(owner="gone", blobs=((Visibility.RAW, "upload"),))
    store.take(m.from_client(upload, "upload"))

    assert doomed(store) == set()
    assert doomed(store, after=timedelta(days=2)) == {"upload"}


def records(store: Store, request: DatasetsRequest) -> tuple[DatasetRecord, ...]:
    reply = store.ask(request)
    assert isinstance(reply, DatasetsReply), reply
    return reply.datasets


def doomed(store: Store, after: timedelta = timedelta(0)) -> set[str]:
    with transaction(store.engine) as connection:
        found = upkeep.blobs_to_delete(connection, datetime.now(UTC) + after)
        known = set(connection.scalars(select(Blob.blob)))
    names = {blob for _, blob in found}
    assert names <= known
    return names


def withdraw(store: Store) -> None:
    with transaction(store.engine) as connection:
        upkeep.withdraw_superseded(connection, datetime.now(UTC), timedelta(0))


def repeated(store: Store, kind: type[Message]) -> list[Any]:
    with transaction(store.engine) as connection:
        upkeep.repeat_state(connection, datetime.now(UTC))
    return [message for _, message in store.published(kind)]


def blobs_of(manifest: Manifest) -> tuple[tuple[Visibility, str], ...]:
    return tuple((part.visibility, part.blob) for part in manifest.parts)
