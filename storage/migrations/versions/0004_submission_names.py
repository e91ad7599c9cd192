"""Names of submissions, which people tell apart more easily than numbers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("submissions", sa.Column("name", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("submissions", "name")
