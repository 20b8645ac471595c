"""The services that work on this database, and which of them does what only one has to do."""

import json

from sqlalchemy import Connection, bindparam, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.people import HOME_REALM
from jitgate.core.clock import Micros

_THIS = t.lease.c.name == bindparam("lease")
_HOLDER = select(t.lease.c.holder, t.lease.c.until).where(_THIS)
_TAKE = update(t.lease).where(_THIS)


class Nodes:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def seen(self, node_id: str, name: str, now: Micros) -> None:
        mine = t.node.c.id == node_id
        if self._c.execute(update(t.node).where(mine).values(name=name, seen_at=now)).rowcount == 0:
            row = {"id": node_id, "realm_id": HOME_REALM, "name": name, "started_at": now, "seen_at": now}
            self._c.execute(insert(t.node).values(row))

    def all(self) -> list[tuple[str, str, Micros]]:
        """Id, name, and when it was seen last; those of today and of long ago."""
        rows = self._c.execute(select(t.node.c.id, t.node.c.name, t.node.c.seen_at).order_by(t.node.c.id))
        return [(row.id, row.name, row.seen_at) for row in rows]

    def held(self, node_id: str) -> frozenset[str]:
        found = self._c.execute(select(t.node.c.held).where(t.node.c.id == node_id)).scalar_one_or_none()
        return frozenset(json.loads(found or "[]"))

    def hold(self, node_id: str, keys: frozenset[str]) -> None:
        self._c.execute(update(t.node).where(t.node.c.id == node_id).values(held=json.dumps(sorted(keys))))

    def lacking(self, key: str, seen_since: Micros) -> list[tuple[str, str, Micros]]:
        rows = self._c.execute(select(t.node).where(t.node.c.seen_at >= seen_since).order_by(t.node.c.id))
        return [(row.id, row.name, row.seen_at) for row in rows if key not in json.loads(row.held)]

    def may_take(self, lease: str, node_id: str, now: Micros, longest: Micros) -> bool:
        """Whether no other node has it. A lease that ends later than any can is of a clock that went wrong."""
        row = self._c.execute(_HOLDER, {"lease": lease}).one_or_none()
        return row is None or row.holder == node_id or not now < row.until <= now + longest

    def take(self, lease: str, node_id: str, until: Micros) -> None:
        if self._c.execute(_TAKE, {"lease": lease, "holder": node_id, "until": until}).rowcount == 0:
            row = {"name": lease, "realm_id": HOME_REALM, "holder": node_id, "until": until}
            self._c.execute(insert(t.lease).values(row))
