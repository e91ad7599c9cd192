"""Alembic's entry: runs the migrations in the transaction that `storage.engine.upgrade` opened."""

from alembic import context

from storage import gateway_models  # noqa: F401 - its tables belong to the metadata, too
from storage.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    # SQLite cannot alter most of a table: Alembic copies it instead.
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
