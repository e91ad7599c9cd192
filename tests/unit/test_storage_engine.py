"""Opening a database and bringing its tables up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from schemas.errors import ConfigurationError, DatabaseAway
from storage.engine import dialect, open_engine, snapshot, transaction, upgrade
from storage.models import Base
from tests.support import messages as m
from tests.support.store import Store


def test_migrations_make_the_tables_of_the_models(database_url: str) -> None:
    # Given an empty database
    engine = open_engine(database_url)

    # When it is upgraded, twice
    upgrade(engine)
    upgrade(engine)

    # Then its tables are those of the models, to the last column and index
    with snapshot(engine) as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []
    engine.dispose()


def test_collectors_that_start_at_once_make_the_tables_once(database_url: str) -> None:
    # Given an empty database and four collectors
    engines = [open_engine(database_url) for _ in range(4)]

    # When all upgrade it at the same time
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, engines))

    # Then it is there
    assert set(Base.metadata.tables) <= set(inspect(engines[0]).get_table_names())
    for engine in engines:
        engine.dispose()


def test_sqlite_readers_never_wait_for_a_writer(tmp_path: object) -> None:
    # Given a transaction that writes
    engine = open_engine(f"sqlite:///{tmp_path}/datarun.sqlite")
    upgrade(engine)
    with transaction(engine) as writer:
        writer.execute(text("INSERT INTO counters (name, value) VALUES ('a', 1)"))

        # When somebody reads meanwhile, then he sees what was committed before
        with snapshot(engine) as reader:
            assert reader.scalar(text("SELECT count(*) FROM counters")) == 0
    assert dialect(engine) == "sqlite"
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://host/name", "no url", "sqlite://", "oracle://x"])
def test_other_databases_are_refused_with_what_to_use(url: str) -> None:
    with pytest.raises(ConfigurationError, match="database"):
        open_engine(url)


def test_a_database_file_that_was_deleted_takes_no_verdict_with_it(tmp_path: Path) -> None:
    # Given a collector's database in use
    file = tmp_path / "datarun.sqlite"
    engine = open_engine(f"sqlite:///{file}")
    upgrade(engine)
    store = Store(engine)
    store.take(m.fold(11, "run-1"))

    # When its file is deleted
    file.unlink()

    # Then nothing is stored where nobody will find it
    with pytest.raises(DatabaseAway, match="deleted or replaced"):
        store.take(m.failure("run-1"))
    engine.dispose()
