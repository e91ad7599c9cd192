"""Opening the database: SQLite or PostgreSQL, at the latest version of its tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import DataError as RefusedValue
from sqlalchemy.exc import IntegrityError as RefusedRow

from schemas.errors import ConfigurationError, DatabaseAway, StorageError
from schemas.settings import Settings

DATABASE_FILE = "datarun.sqlite"

IDLE_IN_TRANSACTION_SECONDS = 30
"""After so long PostgreSQL ends the transaction of a collector that was paused, or whose machine is
gone, so that its locks do not keep another one waiting."""

_BUSY_SECONDS = 30.0
_MIGRATION_LOCK = 0x6461746172756E
"""`datarun` in ASCII: the advisory lock of PostgreSQL that one migration holds."""


def database_url(settings: Settings) -> str:
    """The database that the settings name: SQLite in `home` unless another one is given."""
    if settings.database is not None:
        return settings.database.get_secret_value()
    return f"sqlite:///{settings.home.absolute() / DATABASE_FILE}"


def open_engine(url: str, connections: int = 2) -> Engine:
    """An engine for `sqlite:///file` or `postgresql+psycopg://...`; connects to nothing yet.

    connections: how many it keeps open.
    Raises ConfigurationError when the URL is of no database that datarun can use.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername == "postgresql+psycopg":
            return _postgresql(
                # What a transaction has read is what it may change: a collector that was paused
                # in the middle of one, while another took over, is refused (40001), not believed.
                # https://www.postgresql.org/docs/current/transaction-iso.html#XACT-REPEATABLE-READ
                create_engine(
                    parsed,
                    connect_args={"connect_timeout": 10},
                    pool_size=connections,
                    isolation_level="REPEATABLE READ",
                )
            )
        if parsed.drivername in {"sqlite", "sqlite+pysqlite"} and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            return _sqlite(
                create_engine(
                    parsed, connect_args={"timeout": _BUSY_SECONDS}, pool_size=connections
                )
            )
    except (ArgumentError, NoSuchModuleError, OSError) as error:
        raise ConfigurationError(f"the database URL cannot be used: {error}") from error
    raise ConfigurationError(
        f"databases of kind {parsed.drivername!r} are not supported: "
        "use sqlite:///path/to/file or postgresql+psycopg://user:password@host/name"
    )


def dialect(engine: Engine) -> Literal["sqlite", "postgresql"]:
    """Which of the two it is."""
    return "sqlite" if engine.dialect.name == "sqlite" else "postgresql"


def upgrade(engine: Engine) -> None:
    """Bring the tables to the latest version. Safe when several processes do so at once.

    Raises DatabaseAway or StorageError.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    if dialect(engine) == "postgresql":
        # Who has waited for the lock must see what was migrated meanwhile.
        engine = engine.execution_options(isolation_level="READ COMMITTED")
    with transaction(engine) as connection:
        # SQLite's BEGIN IMMEDIATE is a lock already.
        if dialect(engine) == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction for writing, committed at the end.

    Raises StorageError when a row is refused, DatabaseAway for everything that is no row's fault.
    """
    with _explained(engine), engine.begin() as connection:
        yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """One transaction for reading; it never waits for a writer. Raises as `transaction` does."""
    with _explained(engine), engine.connect() as connection:
        yield connection.execution_options(datarun_reads=True)


@contextmanager
def _explained(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        where = engine.url.render_as_string(hide_password=True)
        reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else repr(error)
        if _is_of_a_row(error):
            raise StorageError(f"the database {where} refused a row: {reason}") from error
        raise DatabaseAway(
            f"the database {where} cannot be used: {reason}. "
            "Nothing is lost: the collector goes on when it is back"
        ) from error
    except SQLAlchemyError as error:
        raise StorageError(f"the database refused a statement: {error}") from error


def _is_of_a_row(error: DBAPIError) -> bool:
    """Whether the values are to blame, so that trying again cannot help.

    Everything else (no connection, a locked file, a full disk, a missing table) is not the fault
    of a message, and no message may be dropped for it.
    """
    # Class 54, "program limit exceeded", such as an index entry that is too long.
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, RefusedValue | RefusedRow) or sqlstate.startswith("54")


def _postgresql(engine: Engine) -> Engine:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        timeout = IDLE_IN_TRANSACTION_SECONDS * 1000
        connection.execute(f"SET idle_in_transaction_session_timeout = {timeout}")
        connection.commit()

    return engine


def _sqlite(engine: Engine) -> Engine:
    file = Path(engine.url.database or "")

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: Any) -> None:
        # The driver's own transactions begin too late for BEGIN IMMEDIATE: switch them off.
        # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#enabling-non-legacy-sqlite-transactional-modes-with-the-sqlite3-or-aiosqlite-driver
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={int(_BUSY_SECONDS * 1000)}",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "cache_size=-65536",
        ):
            connection.execute(f"PRAGMA {pragma}")
        record.info["file"] = _identity(file)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("datarun_reads")
        if not reads and _identity(file) != connection.info["file"]:
            # SQLite would go on writing, into a file that nobody can open any more.
            raise DatabaseAway(
                f"the database file {file} was deleted or replaced while it was in use: "
                "nothing more is stored. Put the file in its place, and start the collector again"
            )
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
