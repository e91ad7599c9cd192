"""Data sets that wait for their labels are kept here, and no longer in the collector's queue."""

import sqlalchemy as sa
from alembic import op

from storage.models import Utc

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "held_datasets",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_held_datasets")),
    )


def downgrade() -> None:
    """Take back. What is held is lost: its data sets have to be published again."""
    op.drop_table("held_datasets")
