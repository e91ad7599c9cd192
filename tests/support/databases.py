"""Empty databases of both kinds, at the latest version of their tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from storage.engine import open_engine, transaction, upgrade
from storage.models import Base
from tests.support.postgres import PostgresServer

_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'datarun.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """A database of each kind for all tests of a file: making one takes longer than a test."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'datarun.sqlite'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        name = f"shared_{next(_numbers)}"
        server.execute(f"CREATE DATABASE {name}")
        url = server.url(name)
    engine = open_engine(url)
    upgrade(engine)
    yield engine
    engine.dispose()
    if request.param == "postgresql":
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    """The same, whose tables are empty."""
    empty(shared_engine)
    return shared_engine


def empty(engine: Engine) -> None:
    """Take every row out of it; ids begin with 1 again."""
    tables = [table.name for table in Base.metadata.sorted_tables]
    with transaction(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY"))
            return
        for table in (*tables, "sqlite_sequence"):
            connection.execute(text(f"DELETE FROM {table}"))
