"""Sessions on hosts: how one is reached, where a session comes from, and logins as agents report them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for table in ("join_token", "host_waiting"):
        op.add_column(table, sa.Column("reach", sa.String(length=16), server_default="dial", nullable=False))
    op.add_column("session", sa.Column("via", sa.String(length=64), server_default="", nullable=False))
    op.create_table(
        "host_login",
        sa.Column("host_id", sa.String(length=26), nullable=False),
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("session_id", sa.String(length=26), nullable=False),
        sa.Column("grant_id", sa.String(length=26), nullable=False),
        sa.Column("how", sa.String(length=16), nullable=False),
        sa.Column("ca", sa.String(length=64), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("login", sa.String(length=32), nullable=False),
        sa.Column("key_id", sa.String(length=255), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("kill_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name=op.f("fk_host_login_host_id_host")),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_host_login_realm_id_realm")),
        sa.PrimaryKeyConstraint("host_id", "id", name=op.f("pk_host_login")),
    )
    op.create_index("ix_host_login_grant", "host_login", ["grant_id"])
    op.create_index("ix_host_login_session", "host_login", ["session_id"])
