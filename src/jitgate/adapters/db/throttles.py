"""Failed sign-ins, counted by account and by address."""

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from jitgate.adapters.db import tables as t
from jitgate.core.clock import Micros
from jitgate.identity.throttle import Throttle


class Throttles:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def get(self, kind: str, subject: str) -> Throttle | None:
        row = self._c.execute(select(t.throttle).where(_this(kind, subject))).one_or_none()
        return None if row is None else Throttle(row.failures, row.last_at)

    def put(self, kind: str, subject: str, throttle: Throttle | None) -> None:
        self._c.execute(delete(t.throttle).where(_this(kind, subject)))
        if throttle is not None:
            self._c.execute(
                insert(t.throttle).values(kind=kind, subject=subject, failures=throttle.failures, last_at=throttle.last)
            )

    def forget(self, before: Micros) -> None:
        self._c.execute(delete(t.throttle).where(t.throttle.c.last_at < before))


def _this(kind: str, subject: str) -> ColumnElement[bool]:
    return (t.throttle.c.kind == kind) & (t.throttle.c.subject == subject)
