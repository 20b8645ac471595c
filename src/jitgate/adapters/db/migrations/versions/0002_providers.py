"""Sign-ins by an identity provider: what it said, and those that wait for somebody at another device."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for column in (
        sa.Column("provider", sa.String(length=32), nullable=False, server_default=""),
        sa.Column("issuer", sa.String(length=255), nullable=False, server_default="local"),
        sa.Column("subject", sa.String(length=255), nullable=False, server_default=""),
        sa.Column("groups", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("directory_name", sa.String(length=255), nullable=False, server_default=""),
    ):
        op.add_column("sign_in", column)
    op.create_table(
        "device_sign_in",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("comment", sa.String(length=128), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("device_code", sa.LargeBinary(), nullable=False),
        sa.Column("interval", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_device_sign_in_realm_id_realm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_sign_in")),
    )
