"""What operators are told of the outbox, and of what was set aside."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client import REGISTRY

from schemas.results import FoldResult
from schemas.topology import RESULTS
from schemas.wire import pack
from storage import outbox
from storage.apply import set_aside
from storage.engine import snapshot, transaction
from storage.telling import tell
from tests.support import messages as m
from tests.support.store import Store

FAILED = {"state": "ERROR", "kind": "bad_output", "culprit": "infrastructure"}


def test_a_message_whose_files_are_uploaded_first_does_not_make_the_outbox_old(
    store: Store,
) -> None:
    # Given a data set whose files have been on their way for an hour, and a later message
    data = pack(m.data_message(), "data")
    long_ago = outbox.accepted_row(data, m.START, raw_data_id=1)
    later = outbox.accepted_row(data, m.START + timedelta(hours=1))
    with transaction(store.engine) as connection:
        outbox.write(connection, [long_ago])

    # Then nothing waits to be published but that
    with snapshot(store.engine) as connection:
        assert outbox.oldest(connection, ()) is None
    with transaction(store.engine) as connection:
        outbox.write(connection, [later])
    with snapshot(store.engine) as connection:
        assert outbox.oldest(connection, ()) == m.START + timedelta(hours=1)


def test_the_id_of_a_message_that_is_removed_is_given_to_no_other_one(store: Store) -> None:
    # Given two collectors that have both published a message, of which one has removed it
    data = pack(m.data_message(), "data")
    row = outbox.accepted_row(data, m.START)
    with transaction(store.engine) as connection:
        (published,) = outbox.write(connection, [row])
    with transaction(store.engine) as connection:
        outbox.remove(connection, [published.id])

    # When another message is written, and the other collector removes what it has published
    with transaction(store.engine) as connection:
        outbox.write(connection, [row])
    with transaction(store.engine) as connection:
        outbox.remove(connection, [published.id])

    # Then that message waits
    with snapshot(store.engine) as connection:
        assert outbox.depth(connection, ()) == 1


def test_the_verdict_of_a_fold_whose_result_is_refused_is_counted(store: Store) -> None:
    # Given a fold
    store.take(m.fold(run_id="r1"))
    store.forget_published()
    counted = REGISTRY.get_sample_value("datarun_results_total", FAILED) or 0
    refused = (
        REGISTRY.get_sample_value("datarun_messages_ignored_total", {"reason": "refused"}) or 0
    )

    # When the database refuses what its worker reports
    applied = set_aside(store.engine, m.from_worker(m.success("r1")), "a constraint")
    tell([], applied, 0)

    # Then it has failed, as its result says, and so do the metrics
    ((exchange, result), _letter) = store.published()
    assert (exchange, type(result)) == (RESULTS, FoldResult)
    assert REGISTRY.get_sample_value("datarun_results_total", FAILED) == counted + 1
    reasons = {"reason": "refused"}
    assert REGISTRY.get_sample_value("datarun_messages_ignored_total", reasons) == refused + 1
