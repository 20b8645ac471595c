"""What key signed the certificate that each host shows, as its agent says."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("host_state", sa.Column("host_ca", sa.String(length=64), server_default="", nullable=False))
    op.add_column("host_state", sa.Column("host_ca_at", sa.BigInteger(), nullable=True))
