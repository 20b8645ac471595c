"""Registered keys: one owner a key at a time."""

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.people import HOME_REALM
from jitgate.core.clock import Micros
from jitgate.identity.model import RegisteredKey
from jitgate.ssh.pubkey import PublicKey, parse_public_key


class Keys:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, key: RegisteredKey) -> None:
        self._c.execute(
            insert(t.person_key).values(
                id=key.id,
                realm_id=HOME_REALM,
                person_id=key.person_id,
                public_key=key.key.blob,
                comment=key.comment,
                added_at=key.added_at,
            )
        )

    def current(self, key: PublicKey) -> RegisteredKey | None:
        standing = (t.person_key.c.public_key == key.blob) & t.person_key.c.removed_at.is_(None)
        row = self._c.execute(select(t.person_key).where(standing)).one_or_none()
        return None if row is None else RegisteredKey(row.id, row.person_id, key, row.comment, row.added_at)

    def by_id(self, key_id: str) -> RegisteredKey | None:
        standing = (t.person_key.c.id == key_id) & t.person_key.c.removed_at.is_(None)
        row = self._c.execute(select(t.person_key).where(standing)).one_or_none()
        return None if row is None else _key(row)

    def of_person(self, person_id: str) -> list[RegisteredKey]:
        mine = (t.person_key.c.person_id == person_id) & t.person_key.c.removed_at.is_(None)
        return [_key(row) for row in self._c.execute(select(t.person_key).where(mine).order_by(t.person_key.c.id))]

    def remove(self, key_id: str, at: Micros) -> None:
        self._c.execute(update(t.person_key).where(t.person_key.c.id == key_id).values(removed_at=at))

    def use_proof(self, digest: bytes, now: Micros, expires_at: Micros) -> bool:
        self._c.execute(delete(t.used_proof).where(t.used_proof.c.expires_at < now))
        savepoint = self._c.begin_nested()
        try:
            self._c.execute(insert(t.used_proof).values(digest=digest, expires_at=expires_at))
        except IntegrityError:
            savepoint.rollback()
            return False
        savepoint.commit()
        return True


def _key(row: Row[tuple[object, ...]]) -> RegisteredKey:
    return RegisteredKey(row.id, row.person_id, parse_public_key(row.public_key), row.comment, row.added_at)
