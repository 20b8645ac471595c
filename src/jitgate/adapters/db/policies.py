"""Policies: each that was ever applied is kept; which one is in force is said apart, and never by a clock."""

from typing import TypeVarTuple

from sqlalchemy import Connection, Row, Select, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.people import HOME_REALM
from jitgate.core.clock import Micros

Columns = TypeVarTuple("Columns")
IN_FORCE = "policy"  # the row of `meta` that names it
_NAMED = t.meta.c.name == IN_FORCE


class Policies:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def digest(self) -> str | None:
        row = self._in_force(select(t.policy.c.digest))
        return None if row is None else row.digest

    def current(self) -> tuple[str, str] | None:
        row = self._in_force(select(t.policy.c.digest, t.policy.c.files))
        return None if row is None else (row.digest, row.files)

    def add(self, policy_id: str, digest: str, text: str, at: Micros) -> None:
        self._c.execute(
            insert(t.policy).values(id=policy_id, realm_id=HOME_REALM, digest=digest, files=text, applied_at=at)
        )
        if self._c.execute(update(t.meta).where(_NAMED).values(value=policy_id)).rowcount == 0:
            self._c.execute(insert(t.meta).values(name=IN_FORCE, value=policy_id))

    def _in_force(self, chosen: Select[*Columns]) -> Row[*Columns] | None:
        return self._c.execute(chosen.join(t.meta, t.meta.c.value == t.policy.c.id).where(_NAMED)).one_or_none()
