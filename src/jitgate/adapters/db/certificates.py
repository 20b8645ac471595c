"""Certificates that left the house: one row each, written in the transaction that released them."""

import json

from sqlalchemy import Connection, func, insert, select

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.prepared import Prepared, Values
from jitgate.ca.realms import Authority, CaKind
from jitgate.core.clock import SECOND, Micros
from jitgate.grants.model import Grant
from jitgate.hosts.model import Host
from jitgate.ssh.cert import CertificateBody

_ADD = Prepared(insert(t.certificate), *t.certificate.c.keys())


class Certificates:
    def __init__(self, connection: Connection) -> None:
        self._c = connection
        self._pending: list[Values] = []

    def add(
        self,
        body: CertificateBody,
        authority: Authority,
        at: Micros,
        *,
        grant: Grant | None = None,
        host: Host | None = None,
    ) -> None:
        """Keep the row for the group's end, or until somebody asks."""
        row = (
            authority.id,
            body.serial,
            authority.realm,
            grant.id if grant else None,
            grant.person_id if grant else None,
            host.id if host else None,
            body.key_id,
            body.key.fingerprint,
            json.dumps(body.principals),
            body.valid_after * SECOND,
            body.valid_before * SECOND,
            at,
        )
        self._pending.append(row)

    def forget_pending(self) -> None:
        """The job that they are of failed."""
        self._pending.clear()

    def write_pending(self) -> None:
        _ADD.run_many(self._c, self._pending)
        self._pending.clear()

    def hosts_certified(self) -> dict[str, Micros]:
        self.write_pending()
        newest = select(t.certificate.c.host_id, func.max(t.certificate.c.issued_at).label("at"))
        chosen = newest.where(t.certificate.c.host_id.is_not(None)).group_by(t.certificate.c.host_id)
        return {row.host_id: row.at for row in self._c.execute(chosen)}

    def last_end(self, authority_id: str) -> Micros | None:
        self.write_pending()
        by_key = select(func.max(t.certificate.c.valid_before)).where(t.certificate.c.ca_key_id == authority_id)
        end: Micros | None = self._c.execute(by_key).scalar_one()
        return end

    def last_end_of_older(self, realm: str, kind: CaKind, issued_before: Micros) -> Micros | None:
        self.write_pending()
        keys = select(t.ca_key.c.id).where((t.ca_key.c.realm_id == realm) & (t.ca_key.c.kind == kind))
        older = t.certificate.c.ca_key_id.in_(keys) & (t.certificate.c.issued_at < issued_before)
        end: Micros | None = self._c.execute(select(func.max(t.certificate.c.valid_before)).where(older)).scalar_one()
        return end

    def of_grant(self, grant_id: str, valid_at: Micros) -> list[tuple[int, Micros]]:
        self.write_pending()
        valid = (t.certificate.c.grant_id == grant_id) & (t.certificate.c.valid_before > valid_at)
        chosen = select(t.certificate.c.serial, t.certificate.c.valid_before).where(valid)
        return [(row.serial, row.valid_before) for row in self._c.execute(chosen.order_by(t.certificate.c.issued_at))]
