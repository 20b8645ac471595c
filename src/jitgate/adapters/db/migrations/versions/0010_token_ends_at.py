"""When the identity provider's token ended by which somebody signed in."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("sign_in", sa.Column("token_ends_at", sa.BigInteger(), nullable=True))
