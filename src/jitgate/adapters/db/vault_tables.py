"""Tables of the Vault surface (docs/vault.md). Of secrets there are hashes only."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, text

from jitgate.adapters.db.tables import metadata

# A mount that ended keeps its row: its realm is nobody else's.
vault_mount = Table(
    "vault_mount",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("realm_id", String(32), ForeignKey("realm.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # secret | auth
    Column("path", String(160), nullable=False),
    Column("type", String(16), nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger, nullable=True),
)
Index(
    "uq_vault_mount_current",
    vault_mount.c.kind,
    vault_mount.c.path,
    unique=True,
    sqlite_where=text("removed_at IS NULL"),
    postgresql_where=text("removed_at IS NULL"),
)

# Roles, users, policies, settings of a mount: the log has their lives.
vault_entry = Table(
    "vault_entry",
    metadata,
    Column("mount_id", String(26), primary_key=True),  # empty: of the surface itself
    Column("kind", String(16), primary_key=True),
    Column("name", String(160), primary_key=True),
    Column("realm_id", String(32), ForeignKey("realm.id"), nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Column("version", Integer, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)

vault_token = Table(
    "vault_token",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("realm_id", String(32), ForeignKey("realm.id"), nullable=False),
    Column("person_id", String(26), ForeignKey("person.id"), nullable=False, index=True),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("terms", Text, nullable=False),  # JSON: policies, meta, how it was got
    Column("mount_id", String(26), nullable=False, index=True),
    Column("parent_id", String(26), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("ttl", BigInteger, nullable=False),
    Column("renewable", Boolean, nullable=False),
    Column("uses_left", BigInteger, nullable=True),
    Column("ended_at", BigInteger, nullable=True),
)

vault_secret_id = Table(
    "vault_secret_id",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("realm_id", String(32), ForeignKey("realm.id"), nullable=False),
    Column("mount_id", String(26), nullable=False),
    Column("role", String(64), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=True),
    Column("uses_left", BigInteger, nullable=True),
    Column("ended_at", BigInteger, nullable=True),
)
Index("ix_vault_secret_id_role", vault_secret_id.c.mount_id, vault_secret_id.c.role)

CHANGES = {
    "vault_mount": "removed_at",
    "vault_entry": "body version changed_at",
    "vault_token": "expires_at uses_left ended_at",
    "vault_secret_id": "uses_left ended_at",
}
"""What rows may become, for `roles`."""
REMOVED = frozenset({"vault_entry", "vault_token", "vault_secret_id"})
