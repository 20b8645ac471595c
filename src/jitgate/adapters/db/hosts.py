"""Hosts that are known, by realm and name."""

import json
from collections.abc import Mapping

from sqlalchemy import Connection, Row, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.core.clock import Micros
from jitgate.hosts.model import Host
from jitgate.ssh.pubkey import parse_public_key


class Hosts:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, host: Host) -> None:
        self._c.execute(
            insert(t.host).values(
                id=host.id,
                realm_id=host.realm,
                name=host.name,
                address=host.address,
                port=host.port,
                labels=json.dumps(dict(host.labels), sort_keys=True),
                logins=json.dumps(host.logins),
                host_key=host.key.blob,
                reach=host.reach,
                added_at=host.added_at,
            )
        )

    def by_name(self, realm: str, name: str) -> Host | None:
        standing = (t.host.c.realm_id == realm) & (t.host.c.name == name) & t.host.c.removed_at.is_(None)
        row = self._c.execute(select(t.host).where(standing)).one_or_none()
        return None if row is None else _host(row)

    def named(self, name: str) -> list[Host]:
        standing = select(t.host).where((t.host.c.name == name) & t.host.c.removed_at.is_(None))
        return [_host(row) for row in self._c.execute(standing.order_by(t.host.c.realm_id))]

    def all(self) -> list[Host]:
        standing = select(t.host).where(t.host.c.removed_at.is_(None))
        return [_host(row) for row in self._c.execute(standing.order_by(t.host.c.realm_id, t.host.c.name))]

    def ids(self) -> frozenset[str]:
        return frozenset(self._c.scalars(select(t.host.c.id).where(t.host.c.removed_at.is_(None))))

    def by_id(self, host_id: str) -> Host | None:
        standing = (t.host.c.id == host_id) & t.host.c.removed_at.is_(None)
        row = self._c.execute(select(t.host).where(standing)).one_or_none()
        return None if row is None else _host(row)

    def set_labels(self, host_id: str, labels: Mapping[str, str]) -> None:
        text = json.dumps(dict(labels), sort_keys=True)
        self._c.execute(update(t.host).where(t.host.c.id == host_id).values(labels=text))

    def remove(self, host_id: str, at: Micros) -> None:
        self._c.execute(update(t.host).where(t.host.c.id == host_id).values(removed_at=at))


def _host(row: Row[tuple[object, ...]]) -> Host:
    return Host(
        id=row.id,
        realm=row.realm_id,
        name=row.name,
        address=row.address,
        port=row.port,
        labels=json.loads(row.labels),
        logins=tuple(json.loads(row.logins)),
        key=parse_public_key(row.host_key),
        added_at=row.added_at,
        reach=row.reach,
    )
