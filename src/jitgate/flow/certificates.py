"""Issuing a certificate under a grant: decide, sign, commit, release.

A crash between signing and committing leaves a serial that is never used again, and no certificate outside. Whatever
takes something away (an ended grant, a removed key, a disabled person, another policy) moves the revocation epoch; an
issue that began under an older one does not commit, but begins again and decides on what is true now.
"""

from dataclasses import dataclass
from functools import partial

from jitgate.audit.events import Event, EventType
from jitgate.ca.issue import SerialUsed, issue
from jitgate.ca.model import CertSpec, IssuedCert
from jitgate.ca.realms import DEFAULT_REALM, Authority, CaKind
from jitgate.ca.shape import shape
from jitgate.core.errors import Conflict, Error, NotFound, Unreachable
from jitgate.core.text import shown
from jitgate.flow.audit import record_burnt
from jitgate.flow.authorities import authority_for
from jitgate.flow.caller import Caller, check_again
from jitgate.flow.grants import host_facts
from jitgate.flow.hosts import NONCE_BYTES, certificate_event
from jitgate.flow.outside import Outside
from jitgate.flow.policy import policy_in_force
from jitgate.flow.ports import Tx
from jitgate.grants.lifecycle import is_active, state
from jitgate.grants.model import Grant, Target
from jitgate.grants.renew import narrow, still_permitted
from jitgate.identity.keys import check_not_refused
from jitgate.policy.model import Facts
from jitgate.sessions.model import Host

ATTEMPTS = 5  # each needs somebody to take something away between our decision and our commit


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that is in the log, and where it opens what."""

    certificate: IssuedCert
    grant: Grant
    host: Host
    login: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was decided, and the revocation epoch it was decided under."""

    epoch: int
    spec: CertSpec
    authority: Authority
    grant: Grant
    target: Target
    host: Host
    policy_digest: str


async def issue_certificate(outside: Outside, caller: Caller, grant_id: str, host_name: str) -> Issued:
    """A certificate for the key that proved the request, for one host of a running grant of the caller.

    Raises `Denied`, `Conflict` (ended), `NotFound`, `Unreachable`; each is in the log before it is raised.
    """
    try:
        for _ in range(ATTEMPTS):
            plan = await outside.store.read(lambda tx: _plan(tx, outside, caller, grant_id, host_name))
            serial = await outside.serials.take(outside.store, plan.authority)
            try:
                issued = await issue(plan.spec, serial, outside.random(NONCE_BYTES), outside.signer)
            except SerialUsed:
                continue  # the signer started anew and takes only serials above all that it signed before
            if await outside.store.write(partial(_commit, outside=outside, caller=caller, plan=plan, issued=issued)):
                return Issued(issued, plan.grant, plan.host, plan.target.login)
        raise Unreachable("too much changed while the certificate was made", "try again")
    except Error as error:
        await _record_refusal(outside, caller, error, grant_id, host_name)
        raise


def _plan(tx: Tx, outside: Outside, caller: Caller, grant_id: str, host_name: str) -> _Plan:
    """Everything that has to hold, read at one moment. The epoch is read first, so that it can only be too old."""
    epoch = tx.epoch()
    now = outside.clock()
    caller = check_again(tx, outside, caller)
    identity, key = caller.identity, caller.proved_key().key
    check_not_refused(key, outside.refused_keys)
    grant = tx.grants.by_id(grant_id)
    if grant is None or grant.person_id != identity.person_id:
        raise NotFound(f"no grant {shown(grant_id)} of yours", "jitctl grants ls")
    if not is_active(grant, now):
        raise Conflict(f"the grant has {state(grant, now)}", "ask again: jitctl vm connect")
    target = next((target for target in grant.targets if target.host == host_name), None)
    host = tx.hosts.by_name(grant.realm, host_name)
    if target is None or host is None:
        raise NotFound(f"the grant does not name a host {shown(host_name)}", "jitctl grants ls")
    facts = Facts(host_facts(host), now, caller.source)
    decision = still_permitted(grant, target, identity, facts, policy_in_force(tx))
    narrowed = narrow(grant, decision, now)
    authority = authority_for(tx, grant.realm, CaKind.USER)
    spec = shape(narrowed, target, key, authority.key, now)
    return _Plan(epoch, spec, authority, grant, target, host, decision.policy_digest)


def _commit(tx: Tx, outside: Outside, caller: Caller, plan: _Plan, issued: IssuedCert) -> bool:
    """Write certificate and event if nothing was taken away meanwhile; else only that this serial is burnt."""
    certificate = issued.certificate
    body = certificate.body
    if tx.epoch() != plan.epoch:
        record_burnt(tx, outside, certificate)
        return False
    now = outside.clock()
    tx.certificates.add(body, plan.authority, now, grant=plan.grant)
    tx.log.append(
        certificate_event(
            certificate,
            caller.actor,
            f"{plan.target.login}@host:{plan.target.host}",
            plan.grant.realm,
            now,
            grant=plan.grant.id,
            source=caller.source,
            more=(("role", plan.grant.role), ("policy", plan.policy_digest)),
        )
    )
    return True


async def _record_refusal(outside: Outside, caller: Caller, error: Error, grant_id: str, host_name: str) -> None:
    def job(tx: Tx) -> None:
        grant = tx.grants.by_id(grant_id)
        known = grant is not None and any(target.host == host_name for target in grant.targets)
        tx.log.append(
            Event(
                EventType.CERTIFICATE_REFUSED,
                "refused",
                outside.clock(),
                DEFAULT_REALM,
                caller.actor,
                target=f"host:{host_name}" if known else "",
                grant=grant_id if grant is not None else "",
                checks=error.checks,
                source=caller.source,
                detail=(("code", error.code),),
            )
        )

    await outside.store.write(job)
