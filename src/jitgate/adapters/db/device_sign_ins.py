"""Sign-ins by device flow that wait for their person."""

from sqlalchemy import Connection, delete, func, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.people import HOME_REALM
from jitgate.core.clock import Micros
from jitgate.identity.model import DeviceSignIn
from jitgate.ssh.pubkey import parse_public_key


class DeviceSignIns:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, waiting: DeviceSignIn) -> None:
        self._c.execute(
            insert(t.device_sign_in).values(
                id=waiting.id,
                realm_id=HOME_REALM,
                provider=waiting.provider,
                public_key=waiting.key.blob,
                comment=waiting.comment,
                network=waiting.network,
                device_code=waiting.device_code,
                interval=waiting.interval,
                next_at=waiting.next_at,
                expires_at=waiting.expires_at,
            )
        )

    def by_id(self, waiting_id: str) -> DeviceSignIn | None:
        row = self._c.execute(select(t.device_sign_in).where(t.device_sign_in.c.id == waiting_id)).one_or_none()
        if row is None:
            return None
        key = parse_public_key(row.public_key)
        return DeviceSignIn(
            row.id,
            row.provider,
            key,
            row.comment,
            row.network,
            row.device_code,
            row.interval,
            row.next_at,
            row.expires_at,
        )

    def count(self, *, network: str | None = None) -> int:
        counted = select(func.count()).select_from(t.device_sign_in)
        if network is not None:
            counted = counted.where(t.device_sign_in.c.network == network)
        return self._c.scalar(counted) or 0

    def take_turn(self, waiting: DeviceSignIn, now: Micros, interval: Micros) -> bool:
        due = (t.device_sign_in.c.id == waiting.id) & (t.device_sign_in.c.next_at <= now)
        taken = update(t.device_sign_in).where(due).values(next_at=now + interval)
        return self._c.execute(taken).rowcount == 1

    def slow_down(self, waiting_id: str, now: Micros, interval: Micros) -> None:
        this = t.device_sign_in.c.id == waiting_id
        self._c.execute(update(t.device_sign_in).where(this).values(next_at=now + interval, interval=interval))

    def remove(self, waiting_id: str) -> bool:
        return self._c.execute(delete(t.device_sign_in).where(t.device_sign_in.c.id == waiting_id)).rowcount == 1

    def forget(self, before: Micros) -> None:
        self._c.execute(delete(t.device_sign_in).where(t.device_sign_in.c.expires_at < before))
