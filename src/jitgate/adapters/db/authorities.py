"""CA keys that are listed, and the serials that nobody has taken yet."""

from collections.abc import Callable

from sqlalchemy import Connection, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.ca.realms import Authority, CaKind, Phase
from jitgate.core.clock import Micros
from jitgate.ssh.pubkey import parse_public_key


class Authorities:
    def __init__(self, connection: Connection, moved: Callable[[], None]) -> None:
        """`moved`: what hosts are told to trust has changed."""
        self._c = connection
        self._moved = moved

    def add(self, authority: Authority, at: Micros, first_serial: int) -> None:
        self._c.execute(
            insert(t.ca_key).values(
                id=authority.id,
                realm_id=authority.realm,
                kind=authority.kind,
                public_key=authority.key.blob,
                phase=authority.phase,
                created_at=at,
            )
        )
        self._c.execute(insert(t.serial_counter).values(ca_key_id=authority.id, next=first_serial))
        self._moved()

    def all(self) -> list[Authority]:
        rows = self._c.execute(select(t.ca_key).order_by(t.ca_key.c.id))
        return [
            Authority(
                row.id,
                row.realm_id,
                CaKind(row.kind),
                parse_public_key(row.public_key),
                Phase(row.phase),
                row.created_at,
                row.serial_floor,
            )
            for row in rows
        ]

    def set_phase(self, authority_id: str, phase: Phase) -> None:
        self._c.execute(update(t.ca_key).where(t.ca_key.c.id == authority_id).values(phase=phase))
        self._moved()

    def next_serial(self, authority_id: str) -> int:
        mine = t.serial_counter.c.ca_key_id == authority_id
        found: int = self._c.execute(select(t.serial_counter.c.next).where(mine)).scalar_one()
        return found

    def set_next_serial(self, authority_id: str, following: int) -> None:
        mine = t.serial_counter.c.ca_key_id == authority_id
        self._c.execute(update(t.serial_counter).where(mine).values(next=following))

    def take_serials(self, authority_id: str, count: int) -> int:
        mine = t.serial_counter.c.ca_key_id == authority_id
        first: int = self._c.execute(select(t.serial_counter.c.next).where(mine)).scalar_one()
        self._c.execute(update(t.serial_counter).where(mine).values(next=first + count))
        return first
