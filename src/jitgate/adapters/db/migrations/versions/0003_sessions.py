"""Sessions that a gateway carries. The table was there, empty: nothing wrote it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.drop_table("session")
    op.create_table(
        "session",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("grant_id", sa.String(length=32), nullable=False),
        sa.Column("person_id", sa.String(length=32), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("host_id", sa.String(length=32), nullable=False),
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.Column("up", sa.BigInteger(), nullable=False),
        sa.Column("down", sa.BigInteger(), nullable=False),
        sa.Column("kill_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["grant_id"], ["access_grant.id"], name=op.f("fk_session_grant_id_access_grant")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_session_person_id_person")),
        sa.ForeignKeyConstraint(["key_id"], ["person_key.id"], name=op.f("fk_session_key_id_person_key")),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name=op.f("fk_session_host_id_host")),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_session_node_id_node")),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_session_realm_id_realm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_grant_id"), "session", ["grant_id"], unique=False)
    op.create_index("ix_session_person", "session", ["person_id", "id"], unique=False)
    still_open = sa.text("ended_at IS NULL")
    op.create_index(
        "ix_session_open", "session", ["node_id"], unique=False, sqlite_where=still_open, postgresql_where=still_open
    )
