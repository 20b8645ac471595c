"""Sign-ins: found by the hash of their token, never by the token."""

import json

from sqlalchemy import ColumnElement, Connection, insert, select, update

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
            )
        )

    def by_token_hash(self, token_hash: bytes) -> SignIn | None:
        row = self._c.execute(select(t.sign_in).where(t.sign_in.c.token_hash == token_hash)).one_or_none()
        if row is None:
            return None
        factors = tuple((Factor(factor), at) for factor, at in json.loads(row.factors))
        return SignIn(row.id, row.person_id, row.token_hash, factors, row.created_at, row.expires_at, row.ended_at)

    def end(self, sign_in_id: str, at: Micros) -> None:
        self._end(t.sign_in.c.id == sign_in_id, at)

    def end_all_of(self, person_id: str, at: Micros) -> None:
        self._end(t.sign_in.c.person_id == person_id, at)

    def _end(self, which: ColumnElement[bool], at: Micros) -> None:
        self._c.execute(update(t.sign_in).where(which, t.sign_in.c.ended_at.is_(None)).values(ended_at=at))
