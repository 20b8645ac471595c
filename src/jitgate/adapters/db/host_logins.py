"""Logins that hosts' agents reported."""

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.agent_tables import host_login
from jitgate.core.clock import Micros
from jitgate.hosts.host_login import How, KeptLogin, Login

_L = host_login.c
_WANTED_MAX = 100_000


class HostLogins:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, kept: KeptLogin) -> bool:
        login = kept.login
        if self.by_id(kept.host_id, login.id) is not None:
            return False
        self._c.execute(
            insert(host_login).values(
                host_id=kept.host_id,
                id=login.id,
                realm_id=kept.realm,
                session_id=kept.session,
                grant_id=kept.grant,
                login=login.login,
                how=login.how.value,
                key_id=login.key_id,
                serial=login.serial,
                ca=login.ca,
                verified=login.verified,
                source=login.source,
                port=login.port,
                began_at=login.at,
                ended_at=kept.ended_at,
                kill_at=kept.kill_at,
            )
        )
        return True

    def by_id(self, host_id: str, login_id: str) -> KeptLogin | None:
        row = self._c.execute(select(host_login).where(_L.host_id == host_id, _L.id == login_id)).one_or_none()
        return None if row is None else _kept(row)

    def end(self, host_id: str, login_id: str, at: Micros) -> KeptLogin | None:
        before = self.by_id(host_id, login_id)
        if before is None or before.ended_at is not None:
            return None
        mine = (_L.host_id == host_id) & (_L.id == login_id)
        self._c.execute(update(host_login).where(mine).values(ended_at=at))
        return before

    def ask_to_end(self, host_id: str, login_id: str, at: Micros) -> None:
        mine = (_L.host_id == host_id) & (_L.id == login_id) & _L.ended_at.is_(None)
        self._c.execute(update(host_login).where(mine).values(kill_at=at))

    def ask_to_end_session(self, session_id: str, at: Micros) -> bool:
        its = (_L.session_id == session_id) & _L.ended_at.is_(None) & _L.kill_at.is_(None)
        return self._c.execute(update(host_login).where(its).values(kill_at=at)).rowcount > 0

    def wanted(self, since: Micros) -> list[tuple[str, str, int]]:
        asked = select(_L.host_id, _L.id, _L.port).where(_L.kill_at > since, _L.ended_at.is_(None))
        rows = self._c.execute(asked.order_by(_L.kill_at.desc()).limit(_WANTED_MAX))
        return [(row[0], row[1], row[2]) for row in rows]

    def ran_out(self, since: Micros, until: Micros) -> bool:
        grant = t.access_grant.c
        over = grant.ends_at.between(since + 1, until) & grant.ended_at.is_(None)
        found = select(func.count()).select_from(t.access_grant.join(host_login, _L.grant_id == grant.id)).where(over)
        return bool(self._c.scalar(found))

    def forget(self, before: Micros) -> None:
        over = func.coalesce(_L.ended_at, _L.began_at) < before
        self._c.execute(delete(host_login).where(over))


def _kept(row: Row[Any]) -> KeptLogin:
    login = Login(
        id=row.id,
        login=row.login,
        source=row.source,
        port=row.port,
        at=row.began_at,
        how=How(row.how),
        verified=row.verified,
        serial=row.serial,
        key_id=row.key_id,
        ca=row.ca,
    )
    return KeptLogin(row.host_id, row.realm_id, login, row.session_id, row.grant_id, row.ended_at, row.kill_at)
