"""Sign-ins: found by the hash of their token, never by the token."""

import json

from sqlalchemy import ColumnElement, Connection, Row, exists, func, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.people import HOME_REALM
from jitgate.core.clock import Micros
from jitgate.identity.model import Factor, SignIn


class SignIns:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, sign_in: SignIn) -> None:
        self._c.execute(
            insert(t.sign_in).values(
                id=sign_in.id,
                realm_id=HOME_REALM,
                person_id=sign_in.person_id,
                token_hash=sign_in.token_hash,
                factors=json.dumps(sign_in.factors),
                created_at=sign_in.created_at,
                expires_at=sign_in.expires_at,
                provider=sign_in.provider,
                issuer=sign_in.issuer,
                subject=sign_in.subject,
                groups=json.dumps(sign_in.groups),
                directory_name=sign_in.directory_name,
                token_ends_at=sign_in.token_ends_at,
            )
        )

    def by_id(self, sign_in_id: str) -> SignIn | None:
        return self._one(t.sign_in.c.id == sign_in_id)

    def by_token_hash(self, token_hash: bytes) -> SignIn | None:
        return self._one(t.sign_in.c.token_hash == token_hash)

    def _one(self, which: ColumnElement[bool]) -> SignIn | None:
        row = self._c.execute(select(t.sign_in).where(which)).one_or_none()
        return None if row is None else _sign_in(row)

    def end(self, sign_in_id: str, at: Micros) -> None:
        self._end(t.sign_in.c.id == sign_in_id, at)

    def end_all_of(self, person_id: str, at: Micros, *, issuer: str = "", subject: str = "") -> int:
        whose = t.sign_in.c.person_id == person_id
        if issuer:
            whose &= (t.sign_in.c.issuer == issuer) & (t.sign_in.c.subject == subject)
        return self._end(whose, at)

    def in_directory(self, now: Micros) -> list[SignIn]:
        sign_in, grant, session = t.sign_in.c, t.access_grant.c, t.session.c
        in_force = sign_in.ended_at.is_(None) & (sign_in.expires_at > now)
        running = exists().where(grant.person_id == t.person.c.id, grant.ended_at.is_(None), grant.ends_at > now)
        open_ = t.person.c.id.in_(select(session.person_id).where(session.ended_at.is_(None)))
        busy = select(t.person.c.id).where(running | open_)
        of_busy = select(func.max(sign_in.id)).where(sign_in.provider != "", sign_in.person_id.in_(busy))
        newest = of_busy.group_by(sign_in.person_id, sign_in.issuer, sign_in.subject)
        by_directory = select(t.sign_in).where(sign_in.directory_name != "")
        found = {
            row.id: _sign_in(row)
            for which in (in_force, sign_in.id.in_(newest))
            for row in self._c.execute(by_directory.where(which))
        }
        return [found[each] for each in sorted(found)]

    def _end(self, which: ColumnElement[bool], at: Micros) -> int:
        running = update(t.sign_in).where(which, t.sign_in.c.ended_at.is_(None))
        return self._c.execute(running.values(ended_at=at)).rowcount


def _sign_in(row: Row[tuple[object, ...]]) -> SignIn:
    return SignIn(
        id=row.id,
        person_id=row.person_id,
        token_hash=row.token_hash,
        factors=tuple((Factor(factor), at) for factor, at in json.loads(row.factors)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        provider=row.provider,
        issuer=row.issuer,
        subject=row.subject,
        groups=tuple(json.loads(row.groups)),
        directory_name=row.directory_name,
        token_ends_at=row.token_ends_at,
    )
