"""Certificates that left the house: one row each, written in the transaction that released them."""

import json

from sqlalchemy import Connection, insert, select

from jitgate.adapters.db import tables as t
from jitgate.ca.realms import Authority
from jitgate.core.clock import SECOND, Micros
from jitgate.grants.model import Grant
from jitgate.sessions.model import Host
from jitgate.ssh.cert import CertificateBody

_ADD = insert(t.certificate)  # made once: this is the hot path


class Certificates:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(
        self,
        body: CertificateBody,
        authority: Authority,
        at: Micros,
        *,
        grant: Grant | None = None,
        host: Host | None = None,
    ) -> None:
        row = {
            "ca_key_id": authority.id,
            "serial": body.serial,
            "realm_id": authority.realm,
            "grant_id": grant and grant.id,
            "person_id": grant and grant.person_id,
            "host_id": host and host.id,
            "key_id": body.key_id,
            "fingerprint": body.key.fingerprint,
            "principals": json.dumps(body.principals),
            "valid_after": body.valid_after * SECOND,
            "valid_before": body.valid_before * SECOND,
            "issued_at": at,
        }
        self._c.execute(_ADD, row)

    def of_grant(self, grant_id: str, valid_at: Micros) -> list[tuple[int, Micros]]:
        valid = (t.certificate.c.grant_id == grant_id) & (t.certificate.c.valid_before > valid_at)
        chosen = select(t.certificate.c.serial, t.certificate.c.valid_before).where(valid)
        return [(row.serial, row.valid_before) for row in self._c.execute(chosen.order_by(t.certificate.c.issued_at))]
