"""Data sets whose labels cannot be had yet: kept by the collector, in nobody's way."""

from __future__ import annotations

from pathlib import Path

from broker.blob_store import BlobStore
from broker.blocking import BlockingLink
from schemas.datasets import Manifest
from schemas.settings import Settings
from schemas.topology import EVENTS, WORK
from schemas.wire import pack
from storage.collector import PREFETCH
from tests.support import messages as m
from tests.support.deadline import wait_until
from tests.support.stack import Stack


def test_more_data_sets_than_are_prefetched_wait_for_a_store_and_hold_up_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    # Given a collector without its object store, and more data sets ready than it may hold unacked
    stack.declare_topology()
    folder = tmp_path / "blobs"
    collector = stack.start_collector(blobs=folder.as_uri())
    count = PREFETCH + 10
    known = m.manifest(blobs="stored-here")
    with BlockingLink(stack.logins.admin, "test") as link:
        reports = [m.data_ready(f"data-{n}", renamed(known, n)) for n in range(count)]
        sent = [(EVENTS, pack(report, f"data.{report.manifest.name}")) for report in reports]
        for _ in link.publish_many(sent, deadline=30):
            continue
        wait_until(lambda: number_of(stack, "held_datasets") == count, what="data sets held back")

        # Then what comes after them is stored
        fold = pack(m.fold_message(), "folds.default", message_id="r11")
        link.publish(WORK, fold, deadline=10)
        wait_until(lambda: number_of(stack, "runs") == 1, what="a fold stored")

    # When that collector is killed, and the store is there for the next one
    collector.kill()
    folder.mkdir()
    put_labels(folder, known)
    stack.start_collector(blobs=folder.as_uri())

    # Then every data set is ready, and is reported once
    wait_until(lambda: number_of(stack, "held_datasets") == 0, within=60, what="data sets stored")
    assert stack.rows("SELECT state, count(*) FROM datasets GROUP BY state") == [("READY", count)]
    assert stack.rows("SELECT reason FROM ignored_messages") == []


def renamed(known: Manifest, number: int) -> Manifest:
    return m.manifest(f"iris-{number}", parts=known.parts)


def number_of(stack: Stack, table: str) -> int:
    return int(stack.rows(f"SELECT count(*) FROM {table}")[0][0])


def put_labels(folder: Path, manifest: Manifest) -> None:
    store = BlobStore.of(Settings(blobs=folder.as_uri()), "amqp://nobody")
    for name in ("y_train", "y_test"):
        part = manifest.part(name)
        store.write(part.visibility, part.blob, m.content_of(name))
