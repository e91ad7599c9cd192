"""No row of the outbox gets the id of a former one: collectors remember rows by their ids."""

from typing import Any

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    _recreate(sqlite_autoincrement=True)


def downgrade() -> None:
    """Take back."""
    _recreate()


def _recreate(**options: Any) -> None:
    # PostgreSQL counts on as it is. https://www.sqlite.org/autoinc.html
    if op.get_context().dialect.name == "sqlite":
        with op.batch_alter_table("outbox", recreate="always", table_kwargs=options):
            pass
