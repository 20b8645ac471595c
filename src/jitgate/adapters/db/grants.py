"""Grants and their targets."""

from typing import Any

from sqlalchemy import Connection, Row, Select, and_, insert, or_, select, update

from jitgate.adapters.db import tables as t
from jitgate.core.clock import Micros
from jitgate.grants.model import Grant
from jitgate.grants.rows import KEPT, restore, terms


class Grants:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, grant: Grant) -> None:
        self._c.execute(
            insert(t.access_grant).values(
                id=grant.id,
                realm_id=grant.realm,
                person_id=grant.person_id,
                role=grant.role,
                policy_digest=grant.policy_digest,
                terms=terms(grant),
                reason=grant.reason,
                opened_at=grant.opened_at,
                ends_at=grant.ends_at,
                ended_at=grant.ended_at,
                end_reason=grant.end_reason,
            )
        )
        targets = [
            {"grant_id": grant.id, "host": target.host, "login": target.login, "realm_id": grant.realm}
            for target in grant.targets
        ]
        self._c.execute(insert(t.grant_target), targets)

    def by_id(self, grant_id: str) -> Grant | None:
        return next(iter(self._read(select(t.access_grant).where(t.access_grant.c.id == grant_id))), None)

    def active(self, now: Micros, *, person_id: str | None = None) -> list[Grant]:
        grant = t.access_grant.c
        running = select(t.access_grant).where(grant.ended_at.is_(None), grant.ends_at > now)
        if person_id is not None:
            running = running.where(grant.person_id == person_id)
        return self._read(running.order_by(grant.opened_at.desc()))

    def count_active(self, person_id: str, now: Micros) -> int:
        grant = t.access_grant.c
        mine = (grant.person_id == person_id) & grant.ended_at.is_(None) & (grant.ends_at > now)
        return len(self._c.execute(select(grant.id).where(mine)).all())

    def latest(self, limit: int, *, person_id: str | None = None) -> list[Grant]:
        newest = select(t.access_grant).order_by(t.access_grant.c.id.desc()).limit(limit)
        if person_id is not None:
            newest = newest.where(t.access_grant.c.person_id == person_id)
        return self._read(newest)

    def ended_since(self, since: Micros, now: Micros) -> list[tuple[str, str, str]]:
        """Realm, host and id for each host of each grant that ended, before its time first, then newest first. One that
        ran out and whose sessions are kept is not among them."""
        grant, target = t.access_grant.c, t.grant_target.c
        over = grant.ends_at.between(since, now)
        ran_out = and_(grant.ended_at.is_(None), over, grant.terms.not_like(KEPT))
        rows = self._c.execute(
            select(grant.realm_id, target.host, grant.id)
            .join(t.grant_target, target.grant_id == grant.id)
            .where(or_(grant.ended_at > since, ran_out))
            .order_by(grant.ended_at.is_(None), grant.ended_at.desc(), grant.ends_at.desc())
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def end(self, grant_id: str, at: Micros, reason: str) -> None:
        mine = t.access_grant.c.id == grant_id
        self._c.execute(update(t.access_grant).where(mine).values(ended_at=at, end_reason=reason))

    def _read(self, query: Select[Any]) -> list[Grant]:
        rows = self._c.execute(query).all()
        chosen = t.grant_target.c.grant_id.in_([row.id for row in rows])
        targets: dict[str, list[tuple[str, str]]] = {row.id: [] for row in rows}
        for target in self._c.execute(select(t.grant_target).where(chosen)) if rows else ():
            targets[target.grant_id].append((target.host, target.login))
        return [_grant(row, targets[row.id]) for row in rows]


def _grant(row: Row[Any], targets: list[tuple[str, str]]) -> Grant:
    return restore(row, row.realm_id, targets)
