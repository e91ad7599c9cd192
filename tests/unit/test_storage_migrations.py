"""What a database of a former version is like after its upgrade."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, insert, select

import storage.engine
from storage.engine import open_engine, snapshot, transaction, upgrade
from storage.gateway_models import RawData
from storage.models import Dataset
from tests.support import messages


def test_data_sets_of_a_former_version_get_integer_ids(database_url: str) -> None:
    # Given a database from before there was a gateway, with two data sets, one of them newer
    engine = open_engine(database_url)
    _migrate(engine, "0001")
    with transaction(engine) as connection:
        for number, name in enumerate(("iris", "wine", "iris"), start=1):
            row = {
                "message_id": f"data-{number}",
                "name": name,
                "state": "READY",
                "workflow_elements": "classifier",
                "log_messages": "",
                "published_at": messages.START,
            }
            connection.execute(insert(Dataset), [row])

    # When it is upgraded
    upgrade(engine)

    # Then each name has an id, and folds of it get what was published last
    with snapshot(engine) as connection:
        rows = connection.execute(
            select(RawData.name, RawData.message_id).order_by(RawData.name)
        ).all()
    assert [tuple(row) for row in rows] == [("iris", "data-3"), ("wine", "data-2")]

    # And it can be taken back
    _migrate(engine, "0001", up=False)
    engine.dispose()


def _migrate(engine: Engine, revision: str, *, up: bool = True) -> None:
    config = Config()
    folder = Path(storage.engine.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with transaction(engine) as connection:
        config.attributes["connection"] = connection
        (command.upgrade if up else command.downgrade)(config, revision)
