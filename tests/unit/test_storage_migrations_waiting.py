"""What waits for a split survives the upgrade."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, insert, select, text

import storage.engine
from storage.engine import open_engine, snapshot, transaction, upgrade
from storage.gateway_models import WaitingFold
from storage.models import RunRow
from tests.support import messages
from tests.support.store import Store


def test_folds_that_wait_keep_waiting_in_the_order_of_publishing(database_url: str) -> None:
    # Given a database of a former version with folds that wait, of which the last id came first
    engine = open_engine(database_url)
    upgrade(engine)
    store = Store(engine)
    store.prepare_iris()
    for number in (1, 2, 3):
        store.take(messages.fold(number, f"run-{number}"))
    _migrate(engine, "0002", up=False)
    with transaction(engine) as connection:
        for number in (1, 2, 3):
            at = messages.START - timedelta(seconds=number)
            connection.execute(
                RunRow.__table__.update()
                .where(RunRow.run_id == f"run-{number}")
                .values(published_at=at)
            )
            connection.execute(
                text("INSERT INTO waiting_folds VALUES (:run_id, 1, NULL, :body)"),
                {"run_id": f"run-{number}", "body": b"{}"},
            )

    # When it is upgraded
    upgrade(engine)

    # Then they are there, the first that was published first, and others may follow
    with transaction(engine) as connection:
        row = {"run_id": "run-0", "raw_data_id": 1, "message_id": None, "body": b"{}"}
        connection.execute(insert(WaitingFold), [row])
    with snapshot(engine) as connection:
        query = select(WaitingFold.run_id).order_by(WaitingFold.id)
        assert list(connection.scalars(query)) == ["run-3", "run-2", "run-1", "run-0"]

    # And it can be taken back, and done again
    _migrate(engine, "0002", up=False)
    upgrade(engine)
    engine.dispose()


def _migrate(engine: Engine, revision: str, *, up: bool = True) -> None:
    config = Config()
    folder = Path(storage.engine.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with transaction(engine) as connection:
        config.attributes["connection"] = connection
        (command.upgrade if up else command.downgrade)(config, revision)
