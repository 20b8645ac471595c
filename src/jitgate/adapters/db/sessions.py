"""Sessions that gateways carry, and the nodes that carry them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, insert, or_, select, update

from jitgate.adapters.db import tables as t
from jitgate.core.clock import Micros
from jitgate.sessions.session import TAKEN, Session, Why

_OPEN = t.session.c.ended_at.is_(None)


class Sessions:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, session: Session) -> None:
        self._c.execute(
            insert(t.session).values(
                id=session.id,
                realm_id=session.realm,
                kind=session.kind,
                grant_id=session.grant_id,
                person_id=session.person_id,
                key_id=session.key_id,
                host_id=session.host_id,
                node_id=session.node,
                target=session.target,
                source=session.source,
                port=session.port,
                via=session.via,
                started_at=session.opened_at,
                ends_at=session.ends_at,
                ended_at=session.ended_at,
                end_reason=session.end_reason,
                up=session.up,
                down=session.down,
            )
        )

    def by_id(self, session_id: str) -> Session | None:
        return next(iter(self._read(_rows().where(t.session.c.id == session_id))), None)

    def open(self, *, person_id: str | None = None, limit: int) -> list[Session]:
        return self._read(_of(person_id).where(_OPEN).order_by(t.session.c.id.desc()).limit(limit))

    def latest(self, limit: int, *, person_id: str | None = None) -> list[Session]:
        return self._read(_of(person_id).order_by(t.session.c.id.desc()).limit(limit))

    def at_port(self, host_id: str, port: int, since: Micros) -> list[Session]:
        there = (t.session.c.host_id == host_id) & (t.session.c.port == port)
        lately = _OPEN | (t.session.c.ended_at >= since)
        return self._read(_rows().where(there, lately).order_by(t.session.c.id.desc()).limit(16))

    def count_open(self, grant_id: str) -> int:
        mine = select(func.count()).select_from(t.session).where(t.session.c.grant_id == grant_id, _OPEN)
        return self._c.scalar(mine) or 0

    def end(self, session_id: str, at: Micros, why: str, up: int, down: int) -> bool:
        mine = (t.session.c.id == session_id) & _OPEN
        ended = update(t.session).where(mine).values(ended_at=at, end_reason=why, up=up, down=down)
        return self._c.execute(ended).rowcount == 1

    def ask_to_end(self, session_id: str, at: Micros) -> bool:
        mine = (t.session.c.id == session_id) & _OPEN & t.session.c.kill_at.is_(None)
        return self._c.execute(update(t.session).where(mine).values(kill_at=at)).rowcount == 1

    def to_end(self, node: str) -> list[tuple[str, Why]]:
        session, taken = t.session.c, _TAKEN
        rows = self._c.execute(
            select(session.id, *(column.is_not(None) for column, _ in taken))
            .join(t.access_grant, t.access_grant.c.id == session.grant_id)
            .join(t.person, t.person.c.id == session.person_id)
            .join(t.person_key, t.person_key.c.id == session.key_id)
            .join(t.host, t.host.c.id == session.host_id)
            .where(session.node_id == node, _OPEN, or_(*(column.is_not(None) for column, _ in taken)))
        )
        return [(row[0], next(why for (_, why), is_so in zip(taken, row[1:], strict=True) if is_so)) for row in rows]

    def left_open(self, node: str, silent_since: Micros) -> list[Session]:
        mine = (t.session.c.node_id == node) | (t.node.c.seen_at < silent_since)
        return self._read(_rows().join(t.node, t.node.c.id == t.session.c.node_id).where(mine, _OPEN))

    def _read(self, query: Select[Any]) -> list[Session]:
        return [_session(row) for row in self._c.execute(query)]


_AT: Mapping[Why, ColumnElement[Any]] = {
    Why.PERSON_DISABLED: t.person.c.disabled_at,
    Why.GRANT_ENDED: t.access_grant.c.ended_at,
    Why.KEY_REMOVED: t.person_key.c.removed_at,
    Why.HOST_REMOVED: t.host.c.removed_at,
    Why.KILLED: t.session.c.kill_at,
}
_TAKEN: tuple[tuple[ColumnElement[Any], Why], ...] = tuple((_AT[why], why) for why in TAKEN)


def _rows() -> Select[Any]:
    return select(t.session, t.person.c.name.label("person_name")).join(
        t.person, t.person.c.id == t.session.c.person_id
    )


def _of(person_id: str | None) -> Select[Any]:
    return _rows() if person_id is None else _rows().where(t.session.c.person_id == person_id)


def _session(row: Row[Any]) -> Session:
    login, _, host = row.target.partition("@host:")
    return Session(
        id=row.id,
        realm=row.realm_id,
        grant_id=row.grant_id,
        person_id=row.person_id,
        person_name=row.person_name,
        key_id=row.key_id,
        host_id=row.host_id,
        host=host,
        login=login,
        node=row.node_id,
        source=row.source,
        port=row.port,
        opened_at=row.started_at,
        ends_at=row.ends_at,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
        up=row.up,
        down=row.down,
        kind=row.kind,
        via=row.via,
    )
