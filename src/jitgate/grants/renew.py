"""A certificate under an open grant: would it still be given?

Rules:
1. Asked again on every issue: the grant's role, login, reason and sign-in, today's groups, policy, host and address.
   The answer may be kept while none of these changes, if the policy does not ask for the time (`asks_time`).
2. Only for the grant's holder, while it is active, and only if the answer is about this very grant.
3. The grant is narrowed to what today's role still gives, and never widened. Where that cannot be (another source
   address, another forced command) the answer is no, and a new grant is to be asked for.
"""

from collections.abc import Iterable
from dataclasses import replace

from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import Denied
from jitgate.core.outcome import Check, failed, passed
from jitgate.grants.lifecycle import is_active, state
from jitgate.grants.model import Grant, Target
from jitgate.identity.model import VerifiedIdentity
from jitgate.policy.bundle import PolicyBundle
from jitgate.policy.decide import decide
from jitgate.policy.model import Ask, Decision, Facts, Permit, Renewal, refusal

_OVER = {"ended": "ended", "expired": "run out"}


def still_permitted(
    grant: Grant, target: Target, identity: VerifiedIdentity, facts: Facts, bundle: PolicyBundle | None
) -> Decision:
    """Today's answer about a target of the grant. Raises `Denied` if the grant is another's or for other targets."""
    ask = ask_again(grant, target)
    return decide(holder_now(grant, identity), ask, facts, bundle, renewing=renewal(grant))


def ask_again(grant: Grant, target: Target) -> Ask:
    """The ask that the grant came from, about one of its targets.

    Raises `Denied` if the target is not the grant's.
    """
    if target not in grant.targets:
        raise Denied(f"the grant is not for {target.login} on {target.host}", "ask for a grant for it")
    return Ask(host=target.host, login=target.login, reason=grant.reason, ticket=grant.ticket, role=grant.role)


def renewal(grant: Grant) -> Renewal:
    """The grant's opening and whole length."""
    return Renewal(grant.opened_at, (grant.ends_at - grant.opened_at) // SECOND)


def holder_now(grant: Grant, identity: VerifiedIdentity) -> VerifiedIdentity:
    """The identity to decide about: today's person and groups, with the sign-in that the grant was opened by.

    Raises `Denied` if it is somebody else's grant, or was opened by another way of signing in: its groups are another
    issuer's, and who one is there and what one may there are never mixed.
    """
    if identity.person_id != grant.person_id:
        raise Denied("it is somebody else's grant", "ask for one of your own")
    if identity.issuer != grant.holder.issuer:
        raise Denied("the grant was opened by another way of signing in", "ask for a new one: jitctl vm connect")
    if identity.factors == grant.holder.factors:
        return identity
    return replace(identity, factors=grant.holder.factors)


def narrow(grant: Grant, decision: Decision, now: Micros) -> Grant:
    """The grant as a certificate may be made from it now: never wider than the grant, nor than today's decision.

    Raises `Denied` with its checks: the decision's own where it says no; else if the grant is over, or the decision is
    about something else, or would give other options than the grant has. The result is for `ca.shape` and not stored.
    """
    if not isinstance(decision, Permit):
        raise refusal(decision)
    checks = tuple(_still(grant, decision, now))
    if lacking := [check for check in checks if not check.passed]:
        why = "; ".join(check.why for check in lacking)
        raise Denied(why, next((check.hint for check in lacking if check.hint), ""), checks=checks)
    return replace(
        grant,
        ends_at=decision.within_token(min(grant.ends_at, grant.opened_at + decision.role.how_long.grant * SECOND)),
        certificate_s=min(grant.certificate_s, decision.certificate_s),
        extensions=tuple(each for each in grant.extensions if each in decision.role.extensions),
    )


def _still(grant: Grant, decision: Permit, now: Micros) -> Iterable[Check]:
    again = "ask for a new grant"
    if is_active(grant, now):
        yield passed("grant", "active")
    else:
        yield failed("grant", f"the grant has {_OVER[state(grant, now)]}", again)
    same = (
        decision.renewing == renewal(grant)
        and decision.role.name == grant.role
        and decision.identity.person_id == grant.person_id
        and decision.facts.host.realm == grant.realm
        and Target(decision.facts.host.name, decision.login) in grant.targets
    )
    yield passed("policy", "still permitted") if same else failed("policy", "decided about something else", again)
    if decision.options == grant.options:
        yield passed("options", "unchanged")
    else:
        yield failed("options", "the source address or the forced command is no longer the grant's", again)
