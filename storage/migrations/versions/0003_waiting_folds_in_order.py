"""Folds that wait for a split are published in the order in which they were accepted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COPIED = "run_id, raw_data_id, message_id, body"


def upgrade() -> None:
    """Apply. What waits already is ordered by when it was published."""
    op.execute(
        "CREATE TABLE former_waiting_folds AS SELECT waiting_folds.*, runs.published_at"
        " FROM waiting_folds LEFT JOIN runs ON runs.run_id = waiting_folds.run_id"
    )
    op.drop_table("waiting_folds")
    _create(
        sa.Column("id", _BIG_ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waiting_folds")),
        sa.UniqueConstraint("run_id", name=op.f("uq_waiting_folds_run_id")),
    )
    op.execute(
        f"INSERT INTO waiting_folds ({_COPIED}) SELECT {_COPIED} FROM former_waiting_folds"
        " ORDER BY published_at, run_id"
    )
    op.drop_table("former_waiting_folds")


def downgrade() -> None:
    """Take back."""
    op.execute(f"CREATE TABLE later_waiting_folds AS SELECT {_COPIED} FROM waiting_folds")
    op.drop_table("waiting_folds")
    _create(sa.PrimaryKeyConstraint("run_id", name=op.f("pk_waiting_folds")))
    op.execute(f"INSERT INTO waiting_folds ({_COPIED}) SELECT {_COPIED} FROM later_waiting_folds")
    op.drop_table("later_waiting_folds")


def _create(*more: sa.schema.SchemaItem) -> None:
    op.create_table(
        "waiting_folds",
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("raw_data_id", _BIG_ID, nullable=False),
        sa.Column("message_id", sa.String(length=255), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        *more,
    )
    op.create_index(op.f("ix_waiting_folds_raw_data_id"), "waiting_folds", ["raw_data_id"])
    op.create_index(op.f("ix_waiting_folds_message_id"), "waiting_folds", ["message_id"])
