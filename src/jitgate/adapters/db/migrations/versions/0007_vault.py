"""Mounts, entries, tokens and secret ids of the Vault surface."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "vault_mount",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("path", sa.String(length=160), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_vault_mount_realm_id_realm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_mount")),
    )
    current = sa.text("removed_at IS NULL")
    op.create_index(
        "uq_vault_mount_current",
        "vault_mount",
        ["kind", "path"],
        unique=True,
        sqlite_where=current,
        postgresql_where=current,
    )
    op.create_table(
        "vault_entry",
        sa.Column("mount_id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_vault_entry_realm_id_realm")),
        sa.PrimaryKeyConstraint("mount_id", "kind", "name", name=op.f("pk_vault_entry")),
    )
    op.create_table(
        "vault_token",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("person_id", sa.String(length=26), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("mount_id", sa.String(length=26), nullable=False),
        sa.Column("parent_id", sa.String(length=26), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ttl", sa.BigInteger(), nullable=False),
        sa.Column("renewable", sa.Boolean(), nullable=False),
        sa.Column("uses_left", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_vault_token_realm_id_realm")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_vault_token_person_id_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_vault_token_token_hash")),
    )
    for column in ("person_id", "mount_id", "parent_id"):
        op.create_index(op.f(f"ix_vault_token_{column}"), "vault_token", [column], unique=False)
    op.create_table(
        "vault_secret_id",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("mount_id", sa.String(length=26), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("uses_left", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_vault_secret_id_realm_id_realm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_secret_id")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_vault_secret_id_secret_hash")),
    )
    op.create_index("ix_vault_secret_id_role", "vault_secret_id", ["mount_id", "role"], unique=False)
