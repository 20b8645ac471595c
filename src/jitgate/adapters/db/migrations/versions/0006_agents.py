"""Agents: what each host has acknowledged, tokens to join with, and hosts that wait for their owner."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "host_state",
        sa.Column("host_id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("node_id", sa.String(length=26), nullable=False),
        sa.Column("connected_at", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("bundle", sa.String(length=80), nullable=False),
        sa.Column("bundle_epoch", sa.BigInteger(), nullable=False),
        sa.Column("bundle_counter", sa.BigInteger(), nullable=False),
        sa.Column("bundle_at", sa.BigInteger(), nullable=True),
        sa.Column("trust_epoch", sa.BigInteger(), nullable=False),
        sa.Column("trust_counter", sa.BigInteger(), nullable=False),
        sa.Column("trust_at", sa.BigInteger(), nullable=True),
        sa.Column("krl", sa.String(length=64), nullable=False),
        sa.Column("clock_off", sa.BigInteger(), nullable=False),
        sa.Column("problems", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name=op.f("fk_host_state_host_id_host")),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_host_state_realm_id_realm")),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_host_state")),
    )
    op.create_table(
        "join_token",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("logins", sa.Text(), nullable=False),
        sa.Column("again", sa.Boolean(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("used_by", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_join_token_realm_id_realm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_join_token_token_hash")),
    )
    op.create_table(
        "host_waiting",
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("host_key", sa.LargeBinary(), nullable=False),
        sa.Column("how", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("logins", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_host_waiting_realm_id_realm")),
        sa.PrimaryKeyConstraint("realm_id", "name", name=op.f("pk_host_waiting")),
    )
