"""What is revoked: serials until their certificates have ended, keys for good, and the acts that did it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    String,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from jitgate.adapters.db import tables as t
from jitgate.ca.realms import Authority, CaKind
from jitgate.ca.revocation import MARGIN, Out, Revocation, What
from jitgate.core.clock import Micros
from jitgate.identity.model import RegisteredKey
from jitgate.ssh.material import fingerprint_of
from jitgate.ssh.pubkey import parse_public_key

_COPIED = ("ca_key_id", "first", "last", "realm_id", "until", "revocation_id")
_C, _S = t.certificate.c, t.revoked_serials.c


class Revocations:
    def __init__(self, connection: Connection, write_pending: Callable[[], None]) -> None:
        """`write_pending`: have the certificates of this transaction written, so that they are found."""
        self._c = connection
        self._write_pending = write_pending

    def add(self, made: Revocation) -> None:
        """Before what it revokes; `count` follows."""
        self._c.execute(
            insert(t.revocation).values(
                id=made.id,
                realm_id=made.realm,
                what=made.what,
                subject=made.subject,
                person_id=made.person_id or None,
                made_by=made.made_by,
                made_at=made.made_at,
                counter=made.counter,
                serials=made.serials,
                keys=made.keys,
            )
        )

    def count(self, revocation_id: str, serials: int, keys: int) -> None:
        mine = t.revocation.c.id == revocation_id
        self._c.execute(update(t.revocation).where(mine).values(serials=serials, keys=keys))

    def by_id(self, revocation_id: str) -> Revocation | None:
        row = self._c.execute(select(t.revocation).where(t.revocation.c.id == revocation_id)).one_or_none()
        return None if row is None else _revocation(row)

    def latest(self, limit: int, *, person_id: str | None = None) -> list[Revocation]:
        newest = select(t.revocation).order_by(t.revocation.c.id.desc()).limit(limit)
        if person_id is not None:
            newest = newest.where(t.revocation.c.person_id == person_id)
        return [_revocation(row) for row in self._c.execute(newest)]

    def certificates(self, serial: int) -> list[Out]:
        """What left under a serial: of one CA key, but for a coincidence."""
        self._write_pending()
        chosen = (
            select(t.certificate, t.ca_key.c.public_key)
            .join(t.ca_key, t.ca_key.c.id == _C.ca_key_id)
            .where(_C.ca_key_id.in_(select(t.ca_key.c.id)), _C.serial == serial)
        )
        return [_out(row) for row in self._c.execute(chosen)]

    def registered(self, named: str) -> RegisteredKey | None:
        """A registration in force, by its id or the key's fingerprint."""
        standing = select(t.person_key).where(t.person_key.c.removed_at.is_(None))
        if not named.startswith("SHA256:"):
            standing = standing.where(t.person_key.c.id == named)
        for row in self._c.execute(standing):
            if named in (row.id, fingerprint_of(row.public_key)):
                return RegisteredKey(row.id, row.person_id, parse_public_key(row.public_key), row.comment, row.added_at)
        return None

    # Serials. Each returns how many certificates that were valid and not revoked yet it took.

    def take_grant(self, grant_id: str, now: Micros, revocation_id: str | None = None) -> int:
        return self._take(_C.grant_id == grant_id, now, revocation_id)

    def take_person(self, person_id: str, now: Micros, revocation_id: str | None = None) -> int:
        """By the grants: a certificate ends with its grant, so that old grants need not be looked through."""
        grants = select(t.access_grant.c.id).where(
            t.access_grant.c.person_id == person_id, t.access_grant.c.ends_at > now
        )
        return self._take(_C.grant_id.in_(grants), now, revocation_id)

    def take_host(self, host_id: str, now: Micros, revocation_id: str | None = None) -> int:
        """The certificates that the host shows."""
        keys = select(t.ca_key.c.id).where(t.ca_key.c.kind == "host")
        return self._take(_C.ca_key_id.in_(keys) & (_C.host_id == host_id), now, revocation_id)

    def take_serial(self, authority_id: str, serial: int, now: Micros, revocation_id: str | None = None) -> int:
        return self._take((_C.ca_key_id == authority_id) & (_C.serial == serial), now, revocation_id)

    def take_range(self, authority_id: str, first: int, last: int, realm: str, revocation_id: str) -> None:
        """All serials of a range, whether we made them or not, for good; none of it is handed out any more."""
        row = {"ca_key_id": authority_id, "first": first, "last": last, "realm_id": realm, "until": None}
        standing = (_S.ca_key_id == authority_id) & (_S.first == first) & (_S.last == last)
        self._c.execute(delete(t.revoked_serials).where(standing))
        self._c.execute(insert(t.revoked_serials).values(**row, revocation_id=revocation_id))
        below = (t.ca_key.c.id == authority_id) & (t.ca_key.c.serial_floor < last)
        self._c.execute(update(t.ca_key).where(below).values(serial_floor=last))

    def take_unreleased(self, authority: Authority, serial: int, until: Micros) -> None:
        """What was signed, and never left by us."""
        key = {"ca_key_id": authority.id, "first": serial, "last": serial}
        standing = select(_S.first).where(*(t.revoked_serials.c[name] == value for name, value in key.items()))
        if self._c.execute(standing).first() is None:
            self._c.execute(insert(t.revoked_serials).values(**key, realm_id=authority.realm, until=until))

    def valid_in(self, authority_id: str, first: int, last: int, now: Micros) -> tuple[int, list[str]]:
        """Of a range: how many certificates are valid, and the grants that they are under."""
        self._write_pending()
        chosen = (_C.ca_key_id == authority_id) & _C.serial.between(first, last) & (_C.valid_before > now)
        rows = self._c.execute(select(_C.grant_id, func.count()).where(chosen).group_by(_C.grant_id)).all()
        return sum(row[1] for row in rows), [row[0] for row in rows if row[0]]

    def serials(self, realm: str, valid_at: Micros, kind: CaKind | None = None) -> Iterator[tuple[bytes, int, int]]:
        """The CA key's blob, first and last serial, in this order; those that end before `valid_at` left out."""
        chosen = (
            select(t.ca_key.c.public_key, _S.first, _S.last)
            .join(t.ca_key, t.ca_key.c.id == _S.ca_key_id)
            .where(t.ca_key.c.realm_id == realm, or_(_S.until.is_(None), _S.until > valid_at))
            .order_by(t.ca_key.c.public_key, _S.first)
        )
        if kind is not None:
            chosen = chosen.where(t.ca_key.c.kind == kind)
        for row in self._c.execute(chosen):
            yield row.public_key, row.first, row.last

    # Keys

    def take_keys(self, blobs: Sequence[bytes], realm: str, at: Micros, revocation_id: str, *, everywhere: bool) -> int:
        """How many were not revoked yet. `everywhere`: in every realm, not in this one alone."""
        new = [blob for blob in dict.fromkeys(blobs) if not self.has_key(blob)]
        more = {"realm_id": realm, "everywhere": everywhere, "revocation_id": revocation_id, "revoked_at": at}
        if new:
            self._c.execute(insert(t.revoked_key), [{"public_key": blob} | more for blob in new])
        return len(new)

    def has_key(self, blob: bytes) -> bool:
        found = select(t.revoked_key.c.public_key).where(t.revoked_key.c.public_key == blob)
        return self._c.execute(found).first() is not None

    def own_keys(self, realm: str) -> list[bytes]:
        """Blobs of the realm's own keys that are revoked: of hosts and CAs."""
        own = (t.revoked_key.c.realm_id == realm) & t.revoked_key.c.everywhere.is_(False)
        return list(self._c.scalars(select(t.revoked_key.c.public_key).where(own)))

    def keys(self, realm: str) -> list[bytes]:
        """Blobs of the keys that are revoked in a realm: those named, and those of persons who are disabled."""
        named = select(t.revoked_key.c.public_key).where(
            or_(t.revoked_key.c.realm_id == realm, t.revoked_key.c.everywhere.is_(True))
        )
        disabled = (
            select(t.person_key.c.public_key)
            .join(t.person, t.person.c.id == t.person_key.c.person_id)
            .where(t.person.c.disabled_at.is_not(None), t.person_key.c.removed_at.is_(None))
        )
        return [row[0] for row in self._c.execute(named.union(disabled))]

    def _take(self, which: ColumnElement[bool], now: Micros, revocation_id: str | None) -> int:
        self._write_pending()
        self._c.execute(delete(t.revoked_serials).where(_S.until < now - MARGIN))
        standing = select(_S.first).where(_S.ca_key_id == _C.ca_key_id, _S.first == _C.serial, _S.last == _C.serial)
        chosen = select(
            _C.ca_key_id,
            _C.serial,
            cast(_C.serial, BigInteger),
            _C.realm_id,
            _C.valid_before,
            cast(literal(revocation_id), String(26)),
        ).where(which, _C.valid_before > now, ~standing.exists())
        copied = insert(t.revoked_serials).from_select(_COPIED, chosen)
        return self._c.execute(copied, execution_options={"preserve_rowcount": True}).rowcount


def _out(row: Row[Any]) -> Out:
    return Out(
        authority_id=row.ca_key_id,
        ca=fingerprint_of(row.public_key),
        realm=row.realm_id,
        serial=row.serial,
        key_id=row.key_id,
        person_id=row.person_id or "",
        grant_id=row.grant_id or "",
        valid_before=row.valid_before,
    )


def _revocation(row: Row[Any]) -> Revocation:
    return Revocation(
        id=row.id,
        realm=row.realm_id,
        what=What(row.what),
        subject=row.subject,
        person_id=row.person_id or "",
        made_by=row.made_by,
        made_at=row.made_at,
        counter=row.counter,
        serials=row.serials,
        keys=row.keys,
    )
