"""Persons, their groups and their local credentials."""

from sqlalchemy import Connection, Select, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.core.clock import Micros
from jitgate.identity.model import LOCAL_ISSUER, Credential, Person

HOME_REALM = "default"


class People:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def by_id(self, person_id: str) -> Person | None:
        return next(iter(self._read(select(t.person).where(t.person.c.id == person_id))), None)

    def by_name(self, name: str) -> Person | None:
        return next(iter(self._read(select(t.person).where(t.person.c.name == name))), None)

    def all(self) -> list[Person]:
        return self._read(select(t.person).order_by(t.person.c.name))

    def add(self, person: Person, credential: Credential | None, identity_id: str) -> None:
        home = {"realm_id": HOME_REALM}
        self._c.execute(
            insert(t.person).values(
                id=person.id, name=person.name, admin=person.admin, created_at=person.created_at, **home
            )
        )
        if person.groups:
            groups = [{"person_id": person.id, "name": group, **home} for group in person.groups]
            self._c.execute(insert(t.person_group), groups)
        if credential is None:
            return
        self._c.execute(
            insert(t.identity).values(
                id=identity_id,
                person_id=person.id,
                issuer=LOCAL_ISSUER,
                subject=person.id,
                linked_at=person.created_at,
                **home,
            )
        )
        self._c.execute(
            insert(t.credential).values(
                person_id=person.id,
                password_hash=credential.password_hash,
                totp_sealed=credential.totp_sealed,
                totp_last_step=credential.totp_last_step,
                changed_at=person.created_at,
                **home,
            )
        )

    def locked_since(self, since: Micros) -> list[str]:
        locked = select(t.person.c.id).where(t.person.c.disabled_at > since).order_by(t.person.c.disabled_at.desc())
        return list(self._c.scalars(locked))

    def set_disabled(self, person_id: str, at: Micros | None) -> None:
        self._c.execute(update(t.person).where(t.person.c.id == person_id).values(disabled_at=at))

    def credential(self, person_id: str) -> Credential | None:
        row = self._c.execute(select(t.credential).where(t.credential.c.person_id == person_id)).one_or_none()
        return (
            None if row is None else Credential(row.person_id, row.password_hash, row.totp_sealed, row.totp_last_step)
        )

    def set_password_hash(self, person_id: str, password_hash: str) -> None:
        mine = t.credential.c.person_id == person_id
        self._c.execute(update(t.credential).where(mine).values(password_hash=password_hash))

    def use_totp_step(self, person_id: str, step: int) -> bool:
        later = (t.credential.c.person_id == person_id) & (t.credential.c.totp_last_step < step)
        return self._c.execute(update(t.credential).where(later).values(totp_last_step=step)).rowcount == 1

    def _read(self, query: Select[tuple[object, ...]]) -> list[Person]:
        rows = self._c.execute(query).all()
        groups: dict[str, list[str]] = {row.id: [] for row in rows}
        members = select(t.person_group.c.person_id, t.person_group.c.name).order_by(t.person_group.c.name)
        if len(rows) == 1:  # the usual case; the whole table only for the list of everybody
            members = members.where(t.person_group.c.person_id == rows[0].id)
        for person_id, name in self._c.execute(members) if rows else ():
            groups[person_id].append(name)
        left: dict[str, list[str]] = {row.id: [] for row in rows}
        leavers = select(t.realm_leaver.c.person_id, t.realm_leaver.c.realm_id)
        if len(rows) == 1:
            leavers = leavers.where(t.realm_leaver.c.person_id == rows[0].id)
        for person_id, realm in self._c.execute(leavers) if rows else ():
            left[person_id].append(realm)
        return [
            Person(
                row.id,
                row.name,
                tuple(groups[row.id]),
                row.admin,
                row.disabled_at,
                row.created_at,
                frozenset(left[row.id]),
            )
            for row in rows
        ]
