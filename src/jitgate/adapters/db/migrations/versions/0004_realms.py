"""Realms that somebody left; plans by which CA keys are replaced."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("node", sa.Column("held", sa.Text(), server_default="[]", nullable=False))
    op.create_table(
        "realm_leaver",
        sa.Column("person_id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("left_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_realm_leaver_person_id_person")),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_realm_leaver_realm_id_realm")),
        sa.PrimaryKeyConstraint("person_id", "realm_id", name=op.f("pk_realm_leaver")),
    )
    op.create_table(
        "rotation",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("old_id", sa.String(length=32), nullable=False),
        sa.Column("new_id", sa.String(length=32), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("trust", sa.BigInteger(), nullable=False),
        sa.Column("emergency", sa.Boolean(), nullable=False),
        sa.Column("waived", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("step_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_rotation_realm_id_realm")),
        sa.ForeignKeyConstraint(["old_id"], ["ca_key.id"], name=op.f("fk_rotation_old_id_ca_key")),
        sa.ForeignKeyConstraint(["new_id"], ["ca_key.id"], name=op.f("fk_rotation_new_id_ca_key")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rotation")),
    )
    running = sa.text("ended_at IS NULL")
    op.create_index(
        "uq_rotation_running",
        "rotation",
        ["realm_id", "kind"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )
