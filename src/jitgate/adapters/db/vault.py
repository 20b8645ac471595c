"""Mounts, entries, tokens and secret ids of the Vault surface."""

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from jitgate.adapters.db.people import HOME_REALM
from jitgate.adapters.db.vault_tables import vault_entry, vault_mount, vault_secret_id, vault_token
from jitgate.core.clock import Micros
from jitgate.identity.model import Factor, Kind
from jitgate.identity.vault import Entry, Mount, MountKind, SecretId, VaultToken

AT_ONCE: Final = 1000  # names in one statement: SQLite takes 32,766 values, PostgreSQL 65,535


class Vault:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def mounts(self) -> list[Mount]:
        current = select(vault_mount).where(vault_mount.c.removed_at.is_(None)).order_by(vault_mount.c.path)
        return [_mount(row) for row in self._c.execute(current)]

    def mount(self, kind: MountKind, path: str) -> Mount | None:
        return next((each for each in self.mounts() if (each.kind, each.path) == (kind, path)), None)

    def add_mount(self, mount: Mount) -> None:
        values = {name: getattr(mount, name) for name in ("id", "kind", "path", "type", "description", "created_at")}
        self._c.execute(insert(vault_mount).values(realm_id=mount.realm, **values))

    def remove_mount(self, mount_id: str, at: Micros) -> None:
        self._c.execute(update(vault_mount).where(vault_mount.c.id == mount_id).values(removed_at=at))

    def entry(self, mount_id: str, kind: str, name: str) -> Entry | None:
        row = self._c.execute(select(vault_entry).where(_this(mount_id, kind, name))).one_or_none()
        return None if row is None else _entry(row)

    def entries(self, mount_id: str, kind: str) -> list[Entry]:
        chosen = (vault_entry.c.mount_id == mount_id) & (vault_entry.c.kind == kind)
        return [_entry(row) for row in self._c.execute(select(vault_entry).where(chosen).order_by(vault_entry.c.name))]

    def put_entry(self, entry: Entry) -> None:
        """Written over what was there; its version counts up."""
        values = {"body": json.dumps(dict(entry.body), sort_keys=True), "changed_at": entry.changed_at}
        this = _this(entry.mount_id, entry.kind, entry.name)
        there = self.entry(entry.mount_id, entry.kind, entry.name)
        if there:
            self._c.execute(update(vault_entry).where(this).values(version=there.version + 1, **values))
            return
        names = {"mount_id": entry.mount_id, "kind": entry.kind, "name": entry.name}
        self._c.execute(insert(vault_entry).values(realm_id=HOME_REALM, version=1, **names, **values))

    def remove_entry(self, mount_id: str, kind: str, name: str) -> bool:
        return self._c.execute(delete(vault_entry).where(_this(mount_id, kind, name))).rowcount == 1

    def add_token(self, token: VaultToken) -> None:
        terms = {
            "version": 1,
            "policies": token.policies,
            "display_name": token.display_name,
            "path": token.path,
            "meta": dict(token.meta),
            "kind": token.kind,
            "issuer": token.issuer,
            "subject": token.subject,
            "factors": token.factors,
        }
        names = "id person_id token_hash mount_id parent_id created_at expires_at until ttl renewable uses_left".split()  # noqa: SIM905  # columns
        values = {name: getattr(token, name) for name in names}
        self._c.execute(insert(vault_token).values(realm_id=HOME_REALM, terms=json.dumps(terms), **values))

    def token_by_hash(self, token_hash: bytes) -> VaultToken | None:
        row = self._c.execute(select(vault_token).where(vault_token.c.token_hash == token_hash)).one_or_none()
        return None if row is None else _token(row)

    def token(self, accessor: str) -> VaultToken | None:
        row = self._c.execute(select(vault_token).where(vault_token.c.id == accessor)).one_or_none()
        return None if row is None else _token(row)

    def tokens(self, now: Micros, *, person: str = "", mount: str = "") -> list[VaultToken]:
        """Those in force, of one person or mount; of all without any."""
        chosen = _in_force(now)
        for column, value in ((vault_token.c.person_id, person), (vault_token.c.mount_id, mount)):
            chosen = chosen & (column == value) if value else chosen
        return [_token(row) for row in self._c.execute(select(vault_token).where(chosen).order_by(vault_token.c.id))]

    def count_tokens(self, now: Micros, person: str) -> int:
        """Those of a person in force."""
        mine = (vault_token.c.person_id == person) & _in_force(now)
        return self._c.execute(select(func.count()).select_from(vault_token).where(mine)).scalar_one()

    def extend_token(self, accessor: str, expires_at: Micros) -> None:
        self._c.execute(update(vault_token).where(vault_token.c.id == accessor).values(expires_at=expires_at))

    def use_token(self, accessor: str) -> bool:
        """Take one of its uses; False if none is left."""
        mine = (vault_token.c.id == accessor) & (vault_token.c.uses_left > 0)
        fewer = update(vault_token).where(mine).values(uses_left=vault_token.c.uses_left - 1)
        return self._c.execute(fewer).rowcount == 1

    def end_tokens(self, accessors: Sequence[str], at: Micros) -> list[str]:
        """End those of them that are in force, and all in force below them, however deep; what ended now, each once."""
        ended: list[str] = []
        column, level = vault_token.c.id, list(accessors)
        while level:  # a generation at a time; what has ended is not in force, so nothing is met twice
            found: list[str] = []
            for first in range(0, len(level), AT_ONCE):
                these = column.in_(level[first : first + AT_ONCE]) & _in_force(at)
                ending = update(vault_token).where(these).values(ended_at=at).returning(vault_token.c.id)
                found += self._c.scalars(ending)
            ended += found
            column, level = vault_token.c.parent_id, found
        return ended

    def add_secret_id(self, secret: SecretId) -> None:
        names = ("id", "mount_id", "role", "secret_hash", "created_at", "expires_at", "uses_left")
        values = {name: getattr(secret, name) for name in names}
        self._c.execute(insert(vault_secret_id).values(realm_id=HOME_REALM, **values))

    def secret_id(self, secret_hash: bytes) -> SecretId | None:
        row = self._c.execute(select(vault_secret_id).where(vault_secret_id.c.secret_hash == secret_hash)).one_or_none()
        return None if row is None else _secret_id(row)

    def secret_ids(self, mount_id: str, role: str) -> list[SecretId]:
        mine = (vault_secret_id.c.mount_id == mount_id) & (vault_secret_id.c.role == role)
        chosen = select(vault_secret_id).where(mine & vault_secret_id.c.ended_at.is_(None))
        return [_secret_id(row) for row in self._c.execute(chosen.order_by(vault_secret_id.c.id))]

    def use_secret_id(self, accessor: str) -> bool:
        """Take one of its uses; False if none is left. One without a number may be used any number of times."""
        mine = (vault_secret_id.c.id == accessor) & vault_secret_id.c.ended_at.is_(None)
        counted = mine & (vault_secret_id.c.uses_left > 0)
        fewer = update(vault_secret_id).where(counted).values(uses_left=vault_secret_id.c.uses_left - 1)
        if self._c.execute(fewer).rowcount == 1:
            return True
        unlimited = select(vault_secret_id.c.id).where(mine & vault_secret_id.c.uses_left.is_(None))
        return self._c.execute(unlimited).one_or_none() is not None

    def end_secret_id(self, accessor: str, at: Micros) -> None:
        self._c.execute(update(vault_secret_id).where(vault_secret_id.c.id == accessor).values(ended_at=at))

    def forget(self, before: Micros) -> None:
        """Drop tokens and secret ids that ended or ran out before."""
        for table in (vault_token, vault_secret_id):
            self._c.execute(delete(table).where((table.c.ended_at < before) | (table.c.expires_at < before)))


def _in_force(now: Micros) -> ColumnElement[bool]:
    return vault_token.c.ended_at.is_(None) & (vault_token.c.expires_at > now)


def _this(mount_id: str, kind: str, name: str) -> ColumnElement[bool]:
    return (vault_entry.c.mount_id == mount_id) & (vault_entry.c.kind == kind) & (vault_entry.c.name == name)


def _mount(row: Row[Any]) -> Mount:
    return Mount(row.id, row.kind, row.path, row.type, row.realm_id, row.description, row.created_at)


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.mount_id, row.kind, row.name, json.loads(row.body), row.changed_at, row.version)


def _secret_id(row: Row[Any]) -> SecretId:
    times = (row.created_at, row.expires_at, row.uses_left, row.ended_at)
    return SecretId(row.id, row.mount_id, row.role, row.secret_hash, *times)


def _token(row: Row[Any]) -> VaultToken:
    said = json.loads(row.terms)
    return VaultToken(
        id=row.id,
        person_id=row.person_id,
        token_hash=row.token_hash,
        policies=tuple(said["policies"]),
        display_name=said["display_name"],
        path=said["path"],
        meta=said["meta"],
        kind=Kind(said["kind"]),
        issuer=said["issuer"],
        subject=said["subject"],
        factors=tuple((Factor(factor), int(at)) for factor, at in said["factors"]),
        mount_id=row.mount_id,
        parent_id=row.parent_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        until=row.until,
        ttl=row.ttl,
        renewable=row.renewable,
        uses_left=row.uses_left,
        ended_at=row.ended_at,
    )
