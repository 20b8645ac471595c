"""A grant to its row and back. What comes back passes the same constructors as a new one."""

import json
from collections.abc import Iterable
from typing import Protocol

from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.grants.model import Grant, Holder, Target
from jitgate.identity.model import Factor, Kind


class GrantRow(Protocol):
    """The columns of a grant. `terms` is text as `terms()` made it; the targets stand in a table of their own."""

    @property
    def id(self) -> str: ...
    @property
    def person_id(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def policy_digest(self) -> str: ...
    @property
    def terms(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def opened_at(self) -> Micros: ...
    @property
    def ends_at(self) -> Micros: ...
    @property
    def ended_at(self) -> Micros | None: ...
    @property
    def end_reason(self) -> str: ...


KEPT = '%"on_expiry": "keep"%'
"""By SQL's LIKE: terms whose sessions outlive the grant. Quotes inside a text are written as two characters there."""


def terms(grant: Grant) -> str:
    """What the role said, and how the holder had signed in, when the grant was opened: JSON for its row."""
    holder = grant.holder
    return json.dumps(
        {
            "version": 1,
            "name": holder.name,
            "kind": holder.kind,
            "issuer": holder.issuer,
            "factors": holder.factors,
            "ticket": grant.ticket,
            "certificate_s": grant.certificate_s,
            "options": grant.options,
            "extensions": grant.extensions,
            "metadata": grant.metadata,
            "on_expiry": grant.on_expiry,
            "max_session_s": grant.max_session_s,
        }
    )


def restore(row: GrantRow, realm: str, targets: Iterable[tuple[str, str]]) -> Grant:
    """The grant of a row; `targets` are its (host, login). Raises `BadInput` if the row holds what no grant could."""
    try:
        said = json.loads(row.terms)
        if said["version"] != 1:
            raise BadInput("a grant's row in an unknown form", "upgrade the service")
        return Grant(
            id=row.id,
            realm=realm,
            holder=Holder(
                person_id=row.person_id,
                name=said["name"],
                kind=Kind(said["kind"]),
                issuer=said["issuer"],
                factors=tuple((Factor(factor), int(at)) for factor, at in said["factors"]),
            ),
            role=row.role,
            policy_digest=row.policy_digest,
            targets=tuple(sorted(Target(host, login) for host, login in targets)),
            reason=row.reason,
            ticket=said["ticket"],
            opened_at=row.opened_at,
            ends_at=row.ends_at,
            certificate_s=int(said["certificate_s"]),
            options=_pairs(said["options"]),
            extensions=tuple(map(str, said["extensions"])),
            metadata=_pairs(said["metadata"]),
            on_expiry=said["on_expiry"],
            max_session_s=said["max_session_s"],
            ended_at=row.ended_at,
            end_reason=row.end_reason,
        )
    except (ValueError, KeyError, TypeError):
        raise BadInput("a grant's row that cannot be read", "see `jitgate doctor`") from None


def _pairs(values: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(value)) for name, value in values)
