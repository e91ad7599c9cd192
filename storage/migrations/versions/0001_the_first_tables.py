"""The first tables."""

import sqlalchemy as sa
from alembic import op

from storage.models import Utc

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "arrays",
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("dtype", sa.String(length=16), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_arrays")),
    )
    op.create_table(
        "blobs",
        sa.Column("blob", sa.String(length=255), nullable=False),
        sa.Column("visibility", sa.String(length=8), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("delete_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("blob", name=op.f("pk_blobs")),
    )
    with op.batch_alter_table("blobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_blobs_delete_at"), ["delete_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_blobs_owner"), ["owner"], unique=False)

    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "dataset_versions",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("version", sa.String(length=16), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("ready_at", Utc(), nullable=False),
        sa.Column("superseded_at", Utc(), nullable=True),
        sa.Column("withdrawn_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_dataset_versions")),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("message_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("target_column", sa.Text(), nullable=True),
        sa.Column("workflow_elements", sa.Text(), nullable=False),
        sa.Column("uploader", sa.Text(), nullable=True),
        sa.Column("version", sa.String(length=16), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("log_messages", sa.Text(), nullable=False),
        sa.Column("published_at", Utc(), nullable=False),
        sa.Column("stored_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("message_id", name=op.f("uq_datasets_message_id")),
    )
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_datasets_name"), ["name"], unique=False)

    op.create_table(
        "file_sets",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_file_sets")),
    )
    op.create_table(
        "folds",
        sa.Column(
            "submission_fold_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("submission_fold_id", name=op.f("pk_folds")),
    )
    op.create_table(
        "held_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_held_events")),
    )
    with op.batch_alter_table("held_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_held_events_run_id"), ["run_id"], unique=False)

    op.create_table(
        "ignored_messages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("submission_fold_id", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ignored_messages")),
    )
    with op.batch_alter_table("ignored_messages", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ignored_messages_run_id"), ["run_id"], unique=False)

    op.create_table(
        "labels",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("version", sa.String(length=16), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", "part", name=op.f("pk_labels")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("exchange", sa.String(length=255), nullable=False),
        sa.Column("routing_key", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=True),
        sa.Column("message_id", sa.String(length=255), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=True),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "parts",
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("attempt_id", sa.String(length=255), nullable=False),
        sa.Column("array", sa.String(length=32), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("received_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "attempt_id", "array", "index", name=op.f("pk_parts")),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("submission_fold_id", sa.BigInteger(), nullable=False),
        sa.Column("submission_id", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("new", sa.Boolean(), nullable=False),
        sa.Column("dataset", sa.String(length=40), nullable=False),
        sa.Column("version", sa.String(length=16), nullable=True),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("priority", sa.String(length=1), nullable=False),
        sa.Column("files_digest", sa.String(length=64), nullable=True),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("uploader", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("worker_at", Utc(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("log_messages", sa.Text(), nullable=False),
        sa.Column("measurements", sa.Text(), nullable=False),
        sa.Column("valid_scores", sa.Text(), nullable=False),
        sa.Column("test_scores", sa.Text(), nullable=False),
        sa.Column("published_at", Utc(), nullable=False),
        sa.Column("stored_at", Utc(), nullable=True),
        sa.Column("cancelled_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_runs_cancelled_at"), ["cancelled_at"], unique=False)
        batch_op.create_index("ix_runs_dataset", ["dataset", "version"], unique=False)
        batch_op.create_index("ix_runs_new", ["new", "submission_fold_id"], unique=False)
        batch_op.create_index(
            "ix_runs_new_dataset", ["new", "dataset", "submission_fold_id"], unique=False
        )
        batch_op.create_index(
            "ix_runs_state", ["standing", "state", "submission_fold_id"], unique=False
        )
        batch_op.create_index(
            "ix_runs_submission", ["submission_id", "submission_fold_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_runs_submission_fold_id"), ["submission_fold_id"], unique=False
        )

    op.create_table(
        "submissions",
        sa.Column(
            "submission_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("files_digest", sa.String(length=64), nullable=False),
        sa.Column("dataset", sa.String(length=40), nullable=False),
        sa.Column("uploader", sa.Text(), nullable=True),
        sa.Column("published_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_submissions")),
    )
    op.create_table(
        "workers",
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("heartbeat", sa.Text(), nullable=False),
        sa.Column("received_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("workers")
    op.drop_table("submissions")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_runs_submission_fold_id"))
        batch_op.drop_index("ix_runs_submission")
        batch_op.drop_index("ix_runs_state")
        batch_op.drop_index("ix_runs_new_dataset")
        batch_op.drop_index("ix_runs_new")
        batch_op.drop_index("ix_runs_dataset")
        batch_op.drop_index(batch_op.f("ix_runs_cancelled_at"))

    op.drop_table("runs")
    op.drop_table("parts")
    op.drop_table("outbox")
    op.drop_table("labels")
    with op.batch_alter_table("ignored_messages", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ignored_messages_run_id"))

    op.drop_table("ignored_messages")
    with op.batch_alter_table("held_events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_held_events_run_id"))

    op.drop_table("held_events")
    op.drop_table("folds")
    op.drop_table("file_sets")
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_datasets_name"))

    op.drop_table("datasets")
    op.drop_table("dataset_versions")
    op.drop_table("counters")
    with op.batch_alter_table("blobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_blobs_owner"))
        batch_op.drop_index(batch_op.f("ix_blobs_delete_at"))

    op.drop_table("blobs")
    op.drop_table("arrays")
