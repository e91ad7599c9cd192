"""What the gateway brings: registered data, waiting folds, users, uploads of the outbox."""

import sqlalchemy as sa
from alembic import op

from storage.models import Utc

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "raw_data",
        sa.Column("id", _BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("target_column", sa.Text(), nullable=True),
        sa.Column("workflow_elements", sa.Text(), nullable=False),
        sa.Column("uploader", sa.Text(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("split", sa.Text(), nullable=True),
        sa.Column("message_id", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_raw_data")),
        sa.UniqueConstraint("name", name=op.f("uq_raw_data_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "raw_files",
        sa.Column("raw_data_id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("raw_data_id", "name", "index", name=op.f("pk_raw_files")),
    )
    op.create_table(
        "waiting_folds",
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("raw_data_id", _BIG_ID, nullable=False),
        sa.Column("message_id", sa.String(length=255), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_waiting_folds")),
    )
    with op.batch_alter_table("waiting_folds", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_waiting_folds_raw_data_id"), ["raw_data_id"])
        batch_op.create_index(batch_op.f("ix_waiting_folds_message_id"), ["message_id"])
    op.create_table(
        "users",
        sa.Column("username", sa.String(length=100), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("username", name=op.f("pk_users")),
    )
    op.add_column("outbox", sa.Column("raw_data_id", _BIG_ID, nullable=True))
    # Data sets that messages have brought get the ids that REST clients know them by.
    op.execute(
        "INSERT INTO raw_data"
        " (name, target_column, workflow_elements, uploader, created_at, message_id)"
        " SELECT name, target_column, workflow_elements, uploader, published_at, message_id"
        " FROM datasets WHERE id IN (SELECT MAX(id) FROM datasets GROUP BY name) ORDER BY id"
    )


def downgrade() -> None:
    """Take back."""
    op.drop_column("outbox", "raw_data_id")
    op.drop_table("users")
    with op.batch_alter_table("waiting_folds", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_waiting_folds_message_id"))
        batch_op.drop_index(batch_op.f("ix_waiting_folds_raw_data_id"))
    op.drop_table("waiting_folds")
    op.drop_table("raw_files")
    op.drop_table("raw_data")
