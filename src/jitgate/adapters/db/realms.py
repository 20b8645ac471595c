"""Realms, who has left one, and the plans by which their CA keys are replaced."""

import json

from sqlalchemy import Connection, Row, delete, insert, select, update

from jitgate.adapters.db import tables as t
from jitgate.ca.realms import CaKind
from jitgate.ca.rotation import Rotation, Step
from jitgate.core.clock import Micros


class Realms:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, name: str, at: Micros) -> None:
        self._c.execute(insert(t.realm).values(id=name, created_at=at))

    def all(self) -> list[tuple[str, Micros]]:
        rows = self._c.execute(select(t.realm).order_by(t.realm.c.created_at, t.realm.c.id))
        return [(row.id, row.created_at) for row in rows]

    def leave(self, person_id: str, realm: str, at: Micros) -> None:
        self._c.execute(insert(t.realm_leaver).values(person_id=person_id, realm_id=realm, left_at=at))

    def come_back(self, person_id: str, realm: str) -> bool:
        mine = (t.realm_leaver.c.person_id == person_id) & (t.realm_leaver.c.realm_id == realm)
        return self._c.execute(delete(t.realm_leaver).where(mine)).rowcount == 1


class Rotations:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, rotation: Rotation) -> None:
        self._c.execute(insert(t.rotation).values(**_values(rotation)))

    def change(self, rotation: Rotation) -> None:
        values = {name: value for name, value in _values(rotation).items() if name in _CHANGED}
        self._c.execute(update(t.rotation).where(t.rotation.c.id == rotation.id).values(**values))

    def running(self) -> list[Rotation]:
        chosen = select(t.rotation).where(t.rotation.c.ended_at.is_(None)).order_by(t.rotation.c.id)
        return [_rotation(row) for row in self._c.execute(chosen)]

    def latest(self, limit: int) -> list[Rotation]:
        """Newest first, ended ones too."""
        return [
            _rotation(row) for row in self._c.execute(select(t.rotation).order_by(t.rotation.c.id.desc()).limit(limit))
        ]


_CHANGED = frozenset({"step", "waived", "step_at", "trust", "ended_at"})  # what a role may change: `roles`


def _values(rotation: Rotation) -> dict[str, object]:
    return {
        "id": rotation.id,
        "realm_id": rotation.realm,
        "kind": rotation.kind,
        "old_id": rotation.old_id,
        "new_id": rotation.new_id,
        "step": rotation.step,
        "emergency": rotation.emergency,
        "waived": json.dumps(sorted(rotation.waived)),
        "started_at": rotation.started_at,
        "step_at": rotation.step_at,
        "trust": rotation.trust,
        "ended_at": rotation.ended_at,
    }


def _rotation(row: Row[tuple[object, ...]]) -> Rotation:
    return Rotation(
        id=row.id,
        realm=row.realm_id,
        kind=CaKind(row.kind),
        old_id=row.old_id,
        new_id=row.new_id,
        step=Step(row.step),
        trust=row.trust,
        emergency=bool(row.emergency),
        waived=frozenset(json.loads(row.waived)),
        started_at=row.started_at,
        step_at=row.step_at,
        ended_at=row.ended_at,
    )
