"""Who is let through the gateway to a host. Pure.

Rules, in order; the first that fails is the answer:
1. The ticket runs, and is for the host that the client names.
2. The host is known, and is the very one that the ticket was made for.
3. The person's sign-in stands and the person is not disabled.
4. The key that the ticket was asked with is registered to that person still.
5. The grant is that person's and is active.
6. Today's policy would still give a certificate for it, from this source address, with the same options; where the
   grant names source networks, the address is in one of them (the host sees only ours).
7. The grant has fewer than `SESSIONS_PER_GRANT` sessions.

A session ends when its grant ends (as policy would give it today), or with `on_expiry: keep` after `max_session`;
`max_session` holds in both cases. Decided once: later changes of policy end nothing, what takes away does (flow).
"""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import Conflict, Denied, Error, NotFound, NotSignedIn, TooMany
from jitgate.core.text import shown
from jitgate.grants.lifecycle import is_active, state
from jitgate.grants.model import Grant, Target
from jitgate.grants.renew import narrow, still_permitted
from jitgate.hosts.model import Host
from jitgate.identity.model import RegisteredKey, VerifiedIdentity
from jitgate.policy.bundle import PolicyBundle
from jitgate.policy.model import Facts as PolicyFacts
from jitgate.sessions.ticket import Ticket

SESSIONS_PER_GRANT = 256  # connections at a time: Ansible with a hundred forks and an editor; a leak is seen before

_AGAIN = "ask again: jitctl vm connect"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of a ticket now. None: there is no such thing. `identity` None: the sign-in has ended, or its person
    is disabled. `host`: what stands under the name that the client gave. `sessions`: how many the grant has open."""

    identity: VerifiedIdentity | None
    key: RegisteredKey | None
    grant: Grant | None
    host: Host | None
    policy: PolicyBundle | None
    sessions: int


@dataclass(frozen=True, slots=True)
class Admission:
    """Let through. `ends_at`: when the session is ended, to the second."""

    identity: VerifiedIdentity
    grant: Grant
    host: Host
    login: str
    key_id: str
    policy_digest: str
    ends_at: Micros


@dataclass(frozen=True, slots=True)
class Refusal:
    """Not let through; `error` has the code and what a person reads."""

    error: Error


def admit(ticket: Ticket, wanted: str, source: str, facts: Facts, now: Micros) -> Admission | Refusal:
    """`wanted`: the host that the client names; `source`: its address, which the system or a listed proxy told."""
    try:
        return _admit(ticket, wanted, source, facts, now)
    except Error as error:
        return Refusal(error)


def _admit(ticket: Ticket, wanted: str, source: str, facts: Facts, now: Micros) -> Admission:
    if now >= ticket.expires_at:
        raise Denied("the ticket has ended", "get a new one: jitctl cert renew HOST", code="ticket_ended")
    if wanted != ticket.host:
        what = f"the ticket is for another host than {shown(wanted)}"
        raise Denied(what, "each host has a ticket of its own: jitctl cert renew HOST", code="ticket_other_host")
    host = facts.host
    if host is None or host.id != ticket.host_id:
        raise NotFound(f"no host {shown(wanted)} any more", "jitctl vm ls", code="host_gone")
    identity, key = _person(ticket, facts)
    grant = facts.grant
    if grant is None or grant.person_id != identity.person_id:
        raise NotFound("the grant is none of yours", _AGAIN)
    if not is_active(grant, now):
        raise Conflict(f"the grant has {state(grant, now)}", _AGAIN, code="grant_ended")
    target = Target(host.name, ticket.login)
    asked = PolicyFacts(host.facts, now, source)
    decision = still_permitted(grant, target, identity, asked, facts.policy)
    today = narrow(grant, decision, now)
    if not is_active(today, now):
        raise Conflict("today's policy gives this grant less time, and that is over", _AGAIN, code="grant_ended")
    _check_source(grant, source)
    if facts.sessions >= SESSIONS_PER_GRANT:
        what = f"the grant has {facts.sessions} open sessions"
        raise TooMany(what, "end some: jitctl sessions ls, jitctl sessions kill ID", code="too_many")
    return Admission(identity, today, host, ticket.login, key.id, decision.policy_digest, _end_of(today, now))


def _person(ticket: Ticket, facts: Facts) -> tuple[VerifiedIdentity, RegisteredKey]:
    identity, key = facts.identity, facts.key
    if identity is None:
        raise NotSignedIn("the sign-in that the ticket is from has ended", "sign in again: jitctl login")
    if key is None or key.id != ticket.key_id or key.person_id != identity.person_id or key.removed_at is not None:
        raise Denied("the key is not registered to you any more", "jitctl keys ls", code="key_not_registered")
    return identity, key


def _check_source(grant: Grant, source: str) -> None:
    """The host cannot ask: it sees the gateway's address, which stands in the certificate in place of these."""
    networks = dict(grant.options).get("source-address", "")
    if networks and not any(ip_address(source) in ip_network(each) for each in networks.split(",")):
        raise Denied(f"you come from outside {networks}", f"come from {networks}", code="source_refused")


def _end_of(grant: Grant, now: Micros) -> Micros:
    ends = [] if grant.on_expiry == "keep" else [grant.ends_at]
    if grant.max_session_s is not None:  # the grant's constructor wants one where it says keep
        ends.append(now + grant.max_session_s * SECOND)
    return min(ends)
