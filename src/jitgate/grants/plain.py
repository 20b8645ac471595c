"""A grant of a Vault mount: plain logins on every host that trusts the mount's CA, for one certificate.

Rules: it is opened from a `PlainPermit` decided within this minute; its targets are the permit's logins on no host by
name; it ends when its one certificate does. Nothing renews it: no host has its target's name.
"""

from collections.abc import Callable

from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import BadInput
from jitgate.grants.lifecycle import PERMIT_AGE_MAX
from jitgate.grants.model import ANY_HOST, Grant, Holder, Target
from jitgate.policy.vault_sign import PlainPermit


def open_plain_grant(permit: PlainPermit, reason: str, now: Micros, new_id: Callable[[], str]) -> Grant:
    """From `now`, for the permit's time. Raises `BadInput` for a permit that was not decided now."""
    if abs(now - permit.decided_at) > PERMIT_AGE_MAX:
        raise BadInput("a permit that was not decided now, for a new grant", "decide again")
    identity = permit.identity
    return Grant(
        id=new_id(),
        realm=permit.realm,
        holder=Holder(identity.person_id, identity.name, identity.kind, identity.issuer, identity.factors),
        role=permit.role,
        policy_digest=permit.policy_digest,
        targets=tuple(sorted(Target(ANY_HOST, login) for login in permit.logins)),
        reason=reason,
        ticket="",
        opened_at=now,
        ends_at=now + permit.ttl_s * SECOND,
        certificate_s=permit.ttl_s,
        options=permit.options,
        extensions=permit.extensions,
        metadata=(),
        on_expiry="end",
        max_session_s=None,
    )
