"""Who may do what inside PostgreSQL, for programs that do not own the tables: GRANT statements, by columns.

Nobody changes or takes away what is written once: entries of the log, checkpoints, certificates, policies, the terms of
a grant. A gateway lets nobody in by itself: it writes sessions and entries of the log, and reads what it decides on; it
sees no password, no seed. An auditor reads the log. The one exception is the erasure of personal texts beside the log's
leaves, which has a role of its own.
"""

from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Engine

from jitgate.adapters.db import agent_tables, vault_tables
from jitgate.adapters.db.tables import metadata

VERSION = "alembic_version"
TABLES = frozenset(metadata.tables)

# What rows may become. A table that is not here has rows that stay as they are.
_CHANGES: Mapping[str, str] = {
    "access_grant": "ended_at end_reason",
    "access_request": "state",
    "ca_key": "phase serial_floor",
    "credential": "password_hash totp_last_step",
    "device_sign_in": "next_at interval",
    "due_event": "done_at",
    "host": "removed_at labels",
    "lease": "holder until",
    "log_state": "frontier",
    "meta": "value",
    "node": "name seen_at held",
    "outbox": "sent_at",
    "person": "disabled_at",
    "person_key": "removed_at",
    "revocation": "serials keys",
    "rotation": "step waived step_at trust ended_at",
    "serial_counter": "next",
    "session": "ended_at end_reason up down kill_at",
    "sign_in": "ended_at",
    **agent_tables.CHANGES,
    **vault_tables.CHANGES,
}
_MADE_BY_INIT = frozenset({"log_state"})
_REMOVED = frozenset(
    {
        "device_sign_in",
        "identity",
        "realm_leaver",
        "revoked_serials",
        "throttle",
        "used_proof",
        *agent_tables.REMOVED,
        *vault_tables.REMOVED,
    }
)

_GATEWAY_READS = TABLES - {
    *("credential", "device_sign_in", "identity", "join_token", "throttle", "used_proof", "outbox", "due_event"),
    *vault_tables.CHANGES,
}
_GATEWAY_WRITES = ("event", "host_login", "host_state", "session", "node")
_GATEWAY_CHANGES = {name: _CHANGES[name] for name in ("host_login", "host_state", "log_state", "node", "session")}
_AUDITOR_READS = ("event", "checkpoint", "log_state", "node")

ROLES = ("api", "gateway", "auditor", "eraser")


def statements(prefix: str = "jitgate", schema: str = "public") -> list[str]:
    """To be run by the tables' owner, and again after each upgrade: they leave nothing of what was granted before.

    The first time by somebody who may make roles.
    """
    names = {role: f'"{prefix}_{role}"' for role in ROLES}
    everybody = ", ".join(names.values())
    return [
        *(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{prefix}_{role}') "
            f"THEN CREATE ROLE {name} NOLOGIN; END IF; END $$"
            for role, name in names.items()
        ),
        f'REVOKE ALL ON ALL TABLES IN SCHEMA "{schema}" FROM PUBLIC, {everybody}',
        f'GRANT USAGE ON SCHEMA "{schema}" TO {everybody}',
        *(
            f'GRANT {what} ON "{schema}"."{table}" TO {names[role]}'
            for role, table, what in (*_api(), *_gateway(), *_auditor(), *_eraser())
        ),
    ]


def apply(engine: Engine, prefix: str = "jitgate") -> None:
    """All of them in one transaction, for the schema that the tables are in."""
    with engine.begin() as connection:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        for statement in statements(prefix, schema):
            connection.exec_driver_sql(statement)


def _api() -> Iterator[tuple[str, str, str]]:
    for table in sorted(TABLES):
        acts = ["SELECT"]
        if table not in _MADE_BY_INIT:
            acts.append("INSERT")
        if table in _CHANGES:
            acts.append(_update(_CHANGES[table]))
        if table in _REMOVED:
            acts.append("DELETE")
        yield "api", table, ", ".join(acts)
    yield "api", VERSION, "SELECT"


def _gateway() -> Iterator[tuple[str, str, str]]:
    yield from _reads("gateway", (*_GATEWAY_READS, VERSION))
    for table in _GATEWAY_WRITES:
        yield "gateway", table, "INSERT"
    for table, columns in _GATEWAY_CHANGES.items():
        yield "gateway", table, _update(columns)


def _auditor() -> Iterator[tuple[str, str, str]]:
    yield from _reads("auditor", (*_AUDITOR_READS, VERSION))


def _eraser() -> Iterator[tuple[str, str, str]]:
    yield "eraser", "event", 'SELECT ("index"), UPDATE ("personal")'


def _reads(role: str, tables: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    return ((role, table, "SELECT") for table in sorted(tables))


def _update(columns: str) -> str:
    quoted = ", ".join(f'"{column}"' for column in columns.split())
    return f"UPDATE ({quoted})"
