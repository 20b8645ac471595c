"""Policies: each that was ever applied is kept; the newest is in force."""

from sqlalchemy import Connection, insert, select

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.people import HOME_REALM
from jitgate.core.clock import Micros


class Policies:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def digest(self) -> str | None:
        return self._c.scalar(
            select(t.policy.c.digest).order_by(t.policy.c.applied_at.desc(), t.policy.c.id.desc()).limit(1)
        )

    def current(self) -> tuple[str, str] | None:
        newest = (
            select(t.policy.c.digest, t.policy.c.files)
            .order_by(t.policy.c.applied_at.desc(), t.policy.c.id.desc())
            .limit(1)
        )
        row = self._c.execute(newest).one_or_none()
        return None if row is None else (row.digest, row.files)

    def add(self, policy_id: str, digest: str, text: str, at: Micros) -> None:
        self._c.execute(
            insert(t.policy).values(id=policy_id, realm_id=HOME_REALM, digest=digest, files=text, applied_at=at)
        )
