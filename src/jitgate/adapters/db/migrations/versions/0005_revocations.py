"""What is revoked, and the acts that did it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("ca_key", sa.Column("serial_floor", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "revocation",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("person_id", sa.String(length=32), nullable=True),
        sa.Column("made_by", sa.String(length=128), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("serials", sa.Integer(), nullable=False),
        sa.Column("keys", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_revocation_person_id_person")),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_revocation_realm_id_realm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revocation")),
    )
    op.create_index(op.f("ix_revocation_person_id"), "revocation", ["person_id"], unique=False)
    op.create_table(
        "revoked_serials",
        sa.Column("ca_key_id", sa.String(length=26), nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("revocation_id", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["ca_key_id"], ["ca_key.id"], name=op.f("fk_revoked_serials_ca_key_id_ca_key")),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_revoked_serials_realm_id_realm")),
        sa.ForeignKeyConstraint(
            ["revocation_id"], ["revocation.id"], name=op.f("fk_revoked_serials_revocation_id_revocation")
        ),
        sa.PrimaryKeyConstraint("ca_key_id", "first", "last", name=op.f("pk_revoked_serials")),
    )
    op.create_index("ix_revoked_serials_until", "revoked_serials", ["until"], unique=False)
    op.create_table(
        "revoked_key",
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("realm_id", sa.String(length=32), nullable=False),
        sa.Column("everywhere", sa.Boolean(), nullable=False),
        sa.Column("revocation_id", sa.String(length=32), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["realm_id"], ["realm.id"], name=op.f("fk_revoked_key_realm_id_realm")),
        sa.ForeignKeyConstraint(
            ["revocation_id"], ["revocation.id"], name=op.f("fk_revoked_key_revocation_id_revocation")
        ),
        sa.PrimaryKeyConstraint("public_key", name=op.f("pk_revoked_key")),
    )
