"""The schema. Times are integer microseconds UTC, ids are ULIDs, `realm_id` stands on every row that belongs to one.

Rows end (`ended_at`, `removed_at`, `disabled_at`) and stay. What the program deletes is throttles, revoked serials of
certificates that have ended, links to identities
(the log has their lives) and sign-ins that waited for another device.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# SQLite's row id is an INTEGER primary key; any other type would need a second index.
_ROW = BigInteger().with_variant(Integer(), "sqlite")


def _id(name: str = "id") -> Column[str]:
    return Column(name, String(26), primary_key=True)


def _ref(name: str, target: str, *, nullable: bool = False, index: bool = True) -> Column[str]:
    return Column(name, String(32), ForeignKey(target), nullable=nullable, index=index)


def _realm() -> Column[str]:
    return Column("realm_id", String(32), ForeignKey("realm.id"), nullable=False)


def _when(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


# A realm's id is its name: it stands in aliases and certificates and never changes.
realm = Table("realm", metadata, Column("id", String(32), primary_key=True), _when("created_at"))

# Single values that the whole installation shares: its id, the restore and revocation epochs, the policy in force.
meta = Table("meta", metadata, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))

ca_key = Table(
    "ca_key",
    metadata,
    _id(),
    _realm(),
    Column("kind", String(16), nullable=False),  # user | host | interception
    Column("public_key", LargeBinary, nullable=False, unique=True),
    Column("phase", String(16), nullable=False),  # active | retired ...
    _when("created_at"),
    # Serials up to this one are revoked or used: none of them is handed out any more.
    Column("serial_floor", BigInteger, nullable=False, server_default="0"),
)

# A plan by which a CA key is replaced: one of a realm and kind at a time.
rotation = Table(
    "rotation",
    metadata,
    _id(),
    _realm(),
    Column("kind", String(16), nullable=False),
    _ref("old_id", "ca_key.id", index=False),
    _ref("new_id", "ca_key.id", index=False),
    Column("step", String(16), nullable=False),  # trust | use | retire | done | aborted
    Column("trust", BigInteger, nullable=False),
    Column("emergency", Boolean, nullable=False),
    Column("waived", Text, nullable=False),  # JSON list of hosts' ids
    _when("started_at"),
    _when("step_at"),
    _when("ended_at", nullable=True),
)
Index(
    "uq_rotation_running",
    rotation.c.realm_id,
    rotation.c.kind,
    unique=True,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)

# The next serial that no process has taken yet: blocks are cut off its front.
serial_counter = Table(
    "serial_counter",
    metadata,
    Column("ca_key_id", String(26), ForeignKey("ca_key.id"), primary_key=True),
    Column("next", BigInteger, nullable=False),
)

person = Table(
    "person",
    metadata,
    _id(),
    _realm(),
    Column("name", String(64), nullable=False, unique=True),
    Column("admin", Boolean, nullable=False),
    _when("created_at"),
    _when("disabled_at", nullable=True),
)

person_group = Table(
    "person_group",
    metadata,
    Column("person_id", String(26), ForeignKey("person.id"), primary_key=True),
    Column("name", String(128), primary_key=True),
    _realm(),
)

# Somebody who has nothing in one realm any more, whatever its roles say; the row goes when they come back.
realm_leaver = Table(
    "realm_leaver",
    metadata,
    Column("person_id", String(26), ForeignKey("person.id"), primary_key=True),
    Column("realm_id", String(32), ForeignKey("realm.id"), primary_key=True),
    _when("left_at"),
)

# Who somebody is elsewhere: (issuer, subject), linked to one person.
identity = Table(
    "identity",
    metadata,
    _id(),
    _realm(),
    _ref("person_id", "person.id"),
    Column("issuer", String(255), nullable=False),
    Column("subject", String(255), nullable=False),
    _when("linked_at"),
    UniqueConstraint("issuer", "subject"),
)

# A local user's password hash and sealed TOTP seed; the sealing key is not in the database.
credential = Table(
    "credential",
    metadata,
    Column("person_id", String(26), ForeignKey("person.id"), primary_key=True),
    _realm(),
    Column("password_hash", Text, nullable=False),
    Column("totp_sealed", LargeBinary, nullable=False),
    Column("totp_last_step", BigInteger, nullable=False),
    _when("changed_at"),
)

throttle = Table(
    "throttle",
    metadata,
    Column("kind", String(16), primary_key=True),  # account | address
    Column("subject", String(128), primary_key=True),
    Column("failures", Integer, nullable=False),
    _when("last_at"),
)

sign_in = Table(
    "sign_in",
    metadata,
    _id(),
    _realm(),
    _ref("person_id", "person.id"),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("factors", Text, nullable=False),  # JSON: [[factor, micros], ...]
    _when("created_at"),
    _when("expires_at"),
    _when("ended_at", nullable=True),
    # What an identity provider said; "" and `local` for a password.
    Column("provider", String(32), nullable=False, server_default=""),
    Column("issuer", String(255), nullable=False, server_default="local"),
    Column("subject", String(255), nullable=False, server_default=""),
    Column("groups", Text, nullable=False, server_default="[]"),  # JSON list
    Column("directory_name", String(255), nullable=False, server_default=""),
    _when("token_ends_at", nullable=True),
)

# A sign-in by device flow that waits for its person. The device code is sealed: with it comes an ID token.
device_sign_in = Table(
    "device_sign_in",
    metadata,
    _id(),
    _realm(),
    Column("provider", String(32), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("comment", String(128), nullable=False),
    Column("network", String(64), nullable=False),  # whose it is counted as: `identity/throttle.py`
    Column("device_code", LargeBinary, nullable=False),
    Column("interval", BigInteger, nullable=False),
    _when("next_at"),
    _when("expires_at"),
)

person_key = Table(
    "person_key",
    metadata,
    _id(),
    _realm(),
    _ref("person_id", "person.id"),
    Column("public_key", LargeBinary, nullable=False),
    Column("comment", String(128), nullable=False),
    _when("added_at"),
    _when("removed_at", nullable=True),
)
# One key has one owner at a time; who removed it may bring it back.
Index(
    "uq_person_key_current",
    person_key.c.public_key,
    unique=True,
    sqlite_where=text("removed_at IS NULL"),
    postgresql_where=text("removed_at IS NULL"),
)

# A proof that may not be used twice (adding a key, later approving): kept until its time window has passed.
used_proof = Table(
    "used_proof",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    _when("expires_at"),
)

host = Table(
    "host",
    metadata,
    _id(),
    _realm(),
    Column("name", String(64), nullable=False),
    Column("address", String(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("labels", Text, nullable=False),  # JSON object
    Column("logins", Text, nullable=False),  # JSON list
    Column("host_key", LargeBinary, nullable=False),
    Column("reach", String(16), nullable=False),  # dial | agent
    _when("added_at"),
    _when("removed_at", nullable=True),
)
Index(
    "uq_host_current",
    host.c.realm_id,
    host.c.name,
    unique=True,
    sqlite_where=text("removed_at IS NULL"),
    postgresql_where=text("removed_at IS NULL"),
)

# Each policy that was ever applied, whole; the one in force is the newest.
policy = Table(
    "policy",
    metadata,
    _id(),
    _realm(),
    Column("digest", String(64), nullable=False),
    Column("files", Text, nullable=False),  # JSON: the bundle's own text form
    _when("applied_at"),
)

access_request = Table(
    "access_request",
    metadata,
    _id(),
    _realm(),
    _ref("person_id", "person.id"),
    Column("role", String(63), nullable=False),
    Column("ask", Text, nullable=False),  # JSON
    Column("state", String(16), nullable=False),  # requested | approved | denied | expired | withdrawn
    _when("created_at"),
    _when("expires_at"),
)

access_grant = Table(
    "access_grant",
    metadata,
    _id(),
    _realm(),
    _ref("person_id", "person.id"),
    _ref("request_id", "access_request.id", nullable=True, index=False),
    Column("role", String(63), nullable=False),
    Column("policy_digest", String(64), nullable=False),
    Column("terms", Text, nullable=False),  # JSON: what the role said when the grant was opened
    Column("reason", Text, nullable=False),
    _when("opened_at"),
    _when("ends_at"),
    _when("ended_at", nullable=True),
    Column("end_reason", Text, nullable=False),
)
Index("ix_access_grant_person_open", access_grant.c.person_id, access_grant.c.ended_at, access_grant.c.ends_at)

grant_target = Table(
    "grant_target",
    metadata,
    Column("grant_id", String(26), ForeignKey("access_grant.id"), primary_key=True),
    Column("host", String(64), primary_key=True),
    Column("login", String(32), primary_key=True),
    _realm(),
)

certificate = Table(
    "certificate",
    metadata,
    Column("ca_key_id", String(26), ForeignKey("ca_key.id"), primary_key=True),
    Column("serial", BigInteger, primary_key=True, autoincrement=False),
    _realm(),
    _ref("grant_id", "access_grant.id", nullable=True),
    _ref("person_id", "person.id", nullable=True),
    _ref("host_id", "host.id", nullable=True, index=False),
    Column("key_id", String(255), nullable=False),
    Column("fingerprint", String(64), nullable=False),  # of the certified key
    Column("principals", Text, nullable=False),  # JSON list
    _when("valid_after"),
    _when("valid_before"),
    _when("issued_at"),
)

# An act that revoked something. `counter`: the state counter with it, by which hosts say that they know of it.
revocation = Table(
    "revocation",
    metadata,
    _id(),
    _realm(),
    Column("what", String(16), nullable=False),  # certificate | serials | key | person | host | grant | ca
    Column("subject", String(255), nullable=False),
    _ref("person_id", "person.id", nullable=True),
    Column("made_by", String(128), nullable=False),
    _when("made_at"),
    Column("counter", BigInteger, nullable=False),
    Column("serials", Integer, nullable=False),
    Column("keys", Integer, nullable=False),
)

# Serials that no host may take any more. Without `revocation_id`: a grant ended, or a person was disabled. They are
# dropped some time after `until`, the end of the certificate; a range has none.
revoked_serials = Table(
    "revoked_serials",
    metadata,
    Column("ca_key_id", String(26), ForeignKey("ca_key.id"), primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, primary_key=True, autoincrement=False),
    _realm(),
    _when("until", nullable=True),
    _ref("revocation_id", "revocation.id", nullable=True, index=False),
)
Index("ix_revoked_serials_until", revoked_serials.c.until)

revoked_key = Table(
    "revoked_key",
    metadata,
    Column("public_key", LargeBinary, primary_key=True),
    _realm(),
    Column("everywhere", Boolean, nullable=False),
    _ref("revocation_id", "revocation.id", index=False),
    _when("revoked_at"),
)

# A connection that a gateway carries. `kill_*`: somebody wants it ended; the node that carries it sees that.
session = Table(
    "session",
    metadata,
    _id(),
    _realm(),
    Column("kind", String(16), nullable=False),  # tunnel | jump | record | kubernetes ...
    _ref("grant_id", "access_grant.id"),
    _ref("person_id", "person.id", index=False),
    _ref("key_id", "person_key.id", index=False),
    _ref("host_id", "host.id", index=False),
    _ref("node_id", "node.id", index=False),
    Column("target", String(128), nullable=False),
    Column("source", String(64), nullable=False),
    Column("port", Integer, nullable=False),  # where the host sees it come from: the gateway's own, or its agent's
    Column("via", String(64), nullable=False, server_default=""),  # and the address
    _when("started_at"),
    _when("ends_at"),
    _when("ended_at", nullable=True),
    Column("end_reason", Text, nullable=False),
    Column("up", BigInteger, nullable=False),
    Column("down", BigInteger, nullable=False),
    _when("kill_at", nullable=True),
)
Index("ix_session_person", session.c.person_id, session.c.id)
Index(
    "ix_session_open",
    session.c.node_id,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)

node = Table(
    "node",
    metadata,
    _id(),
    _realm(),
    Column("name", String(255), nullable=False),
    _when("started_at"),
    _when("seen_at"),
    Column("held", Text, nullable=False, server_default="[]"),  # JSON: fingerprints of CA keys that its signer holds
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(64), primary_key=True),
    _realm(),
    Column("holder", String(26), nullable=False),
    _when("until"),
)

due_event = Table(
    "due_event",
    metadata,
    _id(),
    _realm(),
    _when("due_at"),
    Column("kind", String(32), nullable=False),
    Column("subject", String(64), nullable=False),
    _when("done_at", nullable=True),
)
Index("ix_due_event_open", due_event.c.done_at, due_event.c.due_at)

outbox = Table(
    "outbox",
    metadata,
    _id(),
    _realm(),
    Column("kind", String(32), nullable=False),
    Column("payload", Text, nullable=False),
    _when("created_at"),
    _when("sent_at", nullable=True),
)

# The log: `leaf` is what the tree hashes and never changes; the other columns repeat it for searching and are checked
# against it by `audit verify`; `personal` holds the texts behind the leaf's commitments and may be erased.
event = Table(
    "event",
    metadata,
    Column("index", _ROW, primary_key=True, autoincrement=False),
    Column("id", String(26), nullable=False, unique=True),
    Column("time", BigInteger, nullable=False, index=True),
    Column("realm", String(32), nullable=False),
    Column("type", String(48), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("person", String(26), nullable=False),
    Column("subject", String(26), nullable=False),
    Column("target", String(160), nullable=False),
    Column("host", String(64), nullable=False),
    Column("request", String(26), nullable=False),
    Column("grant", String(26), nullable=False),
    Column("session", String(26), nullable=False),
    Column("serial", String(20), nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("personal", Text, nullable=False),
)
for _name in ("type", "person", "subject", "host", "grant", "serial"):
    Index(f"ix_event_{_name}", event.c[_name], event.c.index)

# One row: how many entries the log has and the hashes of its right edge.
log_state = Table(
    "log_state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("size", _ROW, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    _when("made_at"),
)
