"""Tables of hosts' agents: who may join, what agents acknowledged, and who logged in as they report it."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from jitgate.adapters.db.tables import metadata

# What each host's agent said last; `connected_at` is null while it is not connected.
host_state = Table(
    "host_state",
    metadata,
    Column("host_id", String(26), ForeignKey("host.id"), primary_key=True),
    Column("realm_id", String(32), ForeignKey("realm.id"), nullable=False),
    Column("node_id", String(26), nullable=False),
    Column("connected_at", BigInteger, nullable=True),
    Column("seen_at", BigInteger, nullable=False),
    Column("agent", String(64), nullable=False),
    Column("bundle", String(80), nullable=False),  # the acknowledged version's three numbers
    Column("bundle_epoch", BigInteger, nullable=False),
    Column("bundle_counter", BigInteger, nullable=False),
    Column("bundle_at", BigInteger, nullable=True),
    Column("trust_epoch", BigInteger, nullable=False),
    Column("trust_counter", BigInteger, nullable=False),
    Column("trust_at", BigInteger, nullable=True),
    Column("krl", String(64), nullable=False),  # SHA-256 of the acknowledged revocation list
    Column("host_ca", String(64), nullable=False, server_default=""),  # whose certificate sshd shows: a fingerprint
    Column("host_ca_at", BigInteger, nullable=True),
    Column("clock_off", BigInteger, nullable=False),
    Column("problems", Text, nullable=False),  # JSON list of code and detail
)

join_token = Table(
    "join_token",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("realm_id", String(32), ForeignKey("realm.id"), nullable=False),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("address", String(255), nullable=False),  # empty: the one that the host joins from
    Column("port", Integer, nullable=False),
    Column("reach", String(16), nullable=False, server_default="dial"),
    Column("labels", Text, nullable=False),
    Column("logins", Text, nullable=False),
    Column("again", Boolean, nullable=False),  # may take the place of a host of that name
    Column("made_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=True),
    Column("used_by", LargeBinary, nullable=True),  # the host key
)

# Hosts that proved a key and wait for their owner's word.
host_waiting = Table(
    "host_waiting",
    metadata,
    Column("realm_id", String(32), ForeignKey("realm.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("host_key", LargeBinary, nullable=False),
    Column("how", String(16), nullable=False),  # token | key | oidc
    Column("address", String(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("reach", String(16), nullable=False, server_default="dial"),
    Column("labels", Text, nullable=False),
    Column("logins", Text, nullable=False),
    Column("source", String(64), nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("approved_at", BigInteger, nullable=True),
)

# Who logged in on a host, as its agent reports it; `session_id` empty: not through a gateway.
host_login = Table(
    "host_login",
    metadata,
    Column("host_id", String(26), ForeignKey("host.id"), primary_key=True),
    Column("id", String(26), primary_key=True),  # the agent's
    Column("realm_id", String(32), ForeignKey("realm.id"), nullable=False),
    Column("session_id", String(26), nullable=False),
    Column("grant_id", String(26), nullable=False),
    Column("how", String(16), nullable=False),
    Column("ca", String(64), nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("login", String(32), nullable=False),
    Column("key_id", String(255), nullable=False),
    Column("serial", BigInteger, nullable=False),
    Column("source", String(64), nullable=False),
    Column("port", Integer, nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=True),
    Column("kill_at", BigInteger, nullable=True),  # the agent is to end it
)
Index("ix_host_login_grant", host_login.c.grant_id)
Index("ix_host_login_session", host_login.c.session_id)

# What rows may become, and which go, inside PostgreSQL (roles.py).
CHANGES = {
    "host_login": "ended_at kill_at",
    "host_state": "node_id connected_at seen_at agent bundle bundle_epoch bundle_counter bundle_at trust_epoch "
    "trust_counter trust_at krl host_ca host_ca_at clock_off problems host_id realm_id",
    "host_waiting": "approved_at",
    "join_token": "used_at used_by",
}
REMOVED = ("host_login", "host_waiting", "join_token")
