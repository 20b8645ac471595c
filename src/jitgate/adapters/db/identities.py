"""Who persons are elsewhere: one person an identity."""

from sqlalchemy import Connection, Row, delete, insert, select

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.people import HOME_REALM
from jitgate.identity.model import LinkedIdentity


class Identities:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def of_subject(self, issuer: str, subject: str) -> LinkedIdentity | None:
        this = (t.identity.c.issuer == issuer) & (t.identity.c.subject == subject)
        row = self._c.execute(select(t.identity).where(this)).one_or_none()
        return None if row is None else _identity(row)

    def of_person(self, person_id: str) -> list[LinkedIdentity]:
        mine = select(t.identity).where(t.identity.c.person_id == person_id).order_by(t.identity.c.id)
        return [_identity(row) for row in self._c.execute(mine)]

    def add(self, identity: LinkedIdentity) -> None:
        self._c.execute(
            insert(t.identity).values(
                id=identity.id,
                realm_id=HOME_REALM,
                person_id=identity.person_id,
                issuer=identity.issuer,
                subject=identity.subject,
                linked_at=identity.linked_at,
            )
        )

    def remove(self, identity_id: str) -> None:
        self._c.execute(delete(t.identity).where(t.identity.c.id == identity_id))


def _identity(row: Row[tuple[object, ...]]) -> LinkedIdentity:
    return LinkedIdentity(row.id, row.person_id, row.issuer, row.subject, row.linked_at)
