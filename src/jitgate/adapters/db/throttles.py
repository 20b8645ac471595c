"""Failed sign-ins, counted by account and by address."""

from sqlalchemy import Connection, delete, insert, select

from jitgate.adapters.db import tables as t
from jitgate.identity.throttle import Throttle


class Throttles:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def get(self, key: str) -> Throttle | None:
        row = self._c.execute(select(t.throttle).where(t.throttle.c.key == key)).one_or_none()
        return row and Throttle(row.failures, row.last_at)

    def put(self, key: str, throttle: Throttle | None) -> None:
        self._c.execute(delete(t.throttle).where(t.throttle.c.key == key))
        if throttle is not None:
            self._c.execute(insert(t.throttle).values(key=key, failures=throttle.failures, last_at=throttle.last))

    def forget(self, before: int) -> None:
        """Drop the rows whose last failure is older: they count for nothing any more."""
        self._c.execute(delete(t.throttle).where(t.throttle.c.last_at < before))
