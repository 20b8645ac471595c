"""A grant's life: opened from a permit, active, ended (by its time, by its holder, by an administrator, by a lock).

Rules:
1. A grant is opened from a `Permit` and from nothing else; it takes over who, what and how long, and fixes them.
2. It is never longer than the permit, its certificates never longer than the permit's, its targets never others.
3. Its end never moves; ending is final and may come early. It is active from its opening to before its end.
4. Every certificate under it needs a fresh decision (renew.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import BadInput, Conflict
from jitgate.core.text import check_reason
from jitgate.grants.model import Grant, Holder, State, Target
from jitgate.policy.model import Permit

PERMIT_AGE_MAX: Micros = 60 * SECOND  # a decision and its grant are one act; a permit kept for later is a mistake


def open_grant(permit: Permit, approvals: Iterable[object], now: Micros, new_id: Callable[[], str]) -> Grant:
    """The grant that a permit gives, from `now`. `approvals`: must be empty; a role that wants one gives no permit yet.

    Raises `BadInput` if an approval is handed in, or the permit is for a renewal or not from this minute.
    """
    if tuple(approvals):
        raise BadInput("an approval for a grant that needs none", "this version knows no approvals")
    if permit.renewing or abs(now - permit.facts.now) > PERMIT_AGE_MAX:
        raise BadInput("a permit that was not decided now, for a new grant", "decide again")
    role, identity = permit.role, permit.identity
    return Grant(
        id=new_id(),
        realm=permit.facts.host.realm,
        holder=Holder(identity.person_id, identity.name, identity.kind, identity.issuer, identity.factors),
        role=role.name,
        policy_digest=permit.policy_digest,
        targets=(Target(permit.facts.host.name, permit.login),),
        reason=check_reason(permit.ask.reason),
        ticket=check_reason(permit.ask.ticket),
        opened_at=now,
        ends_at=permit.within_token(now + permit.grant_s * SECOND),
        certificate_s=permit.certificate_s,
        options=permit.options,
        extensions=tuple(sorted(role.extensions)),
        metadata=tuple(sorted(role.metadata.items())),
        on_expiry=role.on_expiry,
        max_session_s=role.max_session,
    )


def state(grant: Grant, now: Micros) -> State:
    """`ended`: before its time, by somebody. `expired`: by its time. The moment `ends_at` itself is expired."""
    if grant.ended_at is not None:
        return "ended"
    return "expired" if now >= grant.ends_at else "active"


def is_active(grant: Grant, now: Micros) -> bool:
    return state(grant, now) == "active"


def end(grant: Grant, why: str, now: Micros) -> Grant:
    """The grant ended at `now`. Raises `Conflict` if it is not active, `BadInput` if `why` is empty or unprintable."""
    if not check_reason(why):
        raise BadInput("a grant ended without a reason", "say why")
    if not is_active(grant, now):
        raise Conflict(f"the grant has {state(grant, now)} already", "nothing is left to end")
    return replace(grant, ended_at=max(now, grant.opened_at), end_reason=check_reason(why))
