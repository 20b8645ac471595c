"""Issuing a certificate under a grant: decide, sign, commit, release.

A crash between signing and committing leaves a serial that is never used again, and no certificate outside. Whatever
takes something away (an ended grant, a removed key, a disabled person, another policy) moves the revocation epoch. An
issue that began under an older one reads its facts again in the transaction that commits it: if any differs it does
not commit, but begins again and decides on what is true now. What others lose all day does not hold it up.
"""

from dataclasses import dataclass, replace
from functools import partial

from jitgate.audit.events import Event, EventType
from jitgate.ca.issue import SerialUsed, issue
from jitgate.ca.model import CertSpec, IssuedCert
from jitgate.ca.realms import DEFAULT_REALM, Authority, CaKind
from jitgate.ca.shape import shape
from jitgate.core.clock import Micros
from jitgate.core.errors import Conflict, Error, NotFound, Unreachable
from jitgate.core.text import shown
from jitgate.flow.audit import record_burnt
from jitgate.flow.authorities import authority_for
from jitgate.flow.caller import Caller, check_again
from jitgate.flow.directory import know_groups
from jitgate.flow.hosts import NONCE_BYTES, certificate_event
from jitgate.flow.outside import Outside
from jitgate.flow.policy import policy_in_force
from jitgate.flow.ports import Tx
from jitgate.grants.lifecycle import is_active, state
from jitgate.grants.model import Grant, Target
from jitgate.grants.renew import narrow, still_permitted
from jitgate.hosts.model import Host
from jitgate.identity.keys import check_not_refused
from jitgate.identity.model import VerifiedIdentity
from jitgate.policy.bundle import PolicyBundle
from jitgate.policy.model import Facts
from jitgate.ssh.cert import CertificateBody

ATTEMPTS = 5  # each needs somebody to take something away between our decision and our commit


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that is in the log, and where it opens what."""

    certificate: IssuedCert
    grant: Grant
    host: Host
    login: str


@dataclass(frozen=True, slots=True)
class _Facts:
    """What an issue is decided on: good while the revocation epoch stands, or while it reads the same again."""

    epoch: int
    identity: VerifiedIdentity
    grant: Grant
    target: Target
    host: Host
    policy: PolicyBundle | None
    authority: Authority


@dataclass(frozen=True, slots=True)
class _Permitted:
    """The grant, narrowed to what the policy gives today, for who asks from `source`."""

    source: str
    grant: Grant
    policy_digest: str


@dataclass(slots=True)
class _Standing:
    """Facts that are recalled, and what was decided on them, where only they can change that (`_permitted`)."""

    facts: _Facts
    permitted: _Permitted | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    facts: _Facts
    spec: CertSpec
    policy_digest: str


async def issue_certificate(outside: Outside, caller: Caller, grant_id: str, host_name: str) -> Issued:
    """A certificate for the key that proved the request, for one host of a running grant of the caller.

    Raises `Denied`, `Conflict` (ended), `NotFound`, `Unreachable`; each is in the log before it is raised.
    """
    try:
        if caller.sign_in.directory_name:
            caller = await know_groups(outside, caller)
        for _ in range(ATTEMPTS):
            standing = await outside.store.recall(
                ("issue", caller.sign_in.id, caller.proved_key().id, grant_id, host_name, caller.directory),
                lambda tx: _Standing(_facts(tx, outside, caller, grant_id, host_name)),
            )
            facts = standing.facts
            plan = _plan(standing, outside, caller)
            serial = await outside.serials.take(outside.store, facts.authority)
            try:
                issued = await issue(plan.spec, serial, outside.random(NONCE_BYTES), outside.signer)
            except SerialUsed:
                continue  # the signer started anew and takes only serials above all that it signed before
            commit = partial(_commit, outside=outside, caller=caller, plan=plan, issued=issued)
            if await outside.store.write(commit, brief=True):
                return Issued(issued, facts.grant, facts.host, facts.target.login)
        raise Unreachable("too much changed while the certificate was made", "try again")
    except Error as error:
        await _record_refusal(outside, caller, error, grant_id, host_name)
        raise


def _facts(tx: Tx, outside: Outside, caller: Caller, grant_id: str, host_name: str) -> _Facts:
    """Everything that has to hold, read at one moment. The epoch is read first, so that it can only be too old."""
    epoch = tx.epoch()
    caller = check_again(tx, outside, caller)
    grant = tx.grants.by_id(grant_id)
    if grant is None or grant.person_id != caller.identity.person_id:
        raise NotFound(f"no grant {shown(grant_id)} of yours", "jitctl grants ls")
    target = next((target for target in grant.targets if target.host == host_name), None)
    host = tx.hosts.by_name(grant.realm, host_name)
    if target is None or host is None:
        raise NotFound(f"the grant does not name a host {shown(host_name)}", "jitctl grants ls")
    authority = authority_for(tx, grant.realm, CaKind.USER)
    return _Facts(epoch, caller.identity, grant, target, host, policy_in_force(tx), authority)


def _plan(standing: _Standing, outside: Outside, caller: Caller) -> _Plan:
    """Decide on the facts as of now. `caller` was resumed for this very request, so that their sign-in runs."""
    facts = standing.facts
    now, key, grant = outside.clock(), caller.proved_key().key, facts.grant
    check_not_refused(key, outside.refused_keys)
    if not is_active(grant, now):
        raise Conflict(f"the grant has {state(grant, now)}", "ask again: jitctl vm connect")
    permitted = _permitted(standing, caller.source, now)
    path = outside.gateway
    gateway = path.stands_for(grant.options) if path else ""
    spec = shape(permitted.grant, facts.target, key, facts.authority.key, now, gateway=gateway)
    return _Plan(facts, spec, permitted.policy_digest)


def _permitted(standing: _Standing, source: str, now: Micros) -> _Permitted:
    """Today's yes, or `Denied`.

    A decision is a function of what it is given. It is kept with the facts that it was made on, for the same address
    and as long as the role's time lasts, unless the policy asks for the time of day.
    """
    kept = standing.permitted
    if kept is not None and kept.source == source and is_active(kept.grant, now):
        return kept
    facts = standing.facts
    asked = Facts(facts.host.facts, now, source)
    decision = still_permitted(facts.grant, facts.target, facts.identity, asked, facts.policy)
    permitted = _Permitted(source, narrow(facts.grant, decision, now), decision.policy_digest)
    if facts.policy is not None and not facts.policy.asks_time:
        standing.permitted = permitted
    return permitted


def _commit(tx: Tx, outside: Outside, caller: Caller, plan: _Plan, issued: IssuedCert) -> bool:
    """Write certificate and event if what it rests on is still so; else only that this serial is burnt."""
    certificate = issued.certificate
    body = certificate.body
    if tx.epoch() != plan.facts.epoch and not _still_so(tx, outside, caller, plan.facts, body):
        record_burnt(tx, outside, certificate)
        return False
    now = outside.clock()
    tx.certificates.add(body, plan.facts.authority, now, grant=plan.facts.grant)
    tx.log.append(
        certificate_event(
            certificate,
            caller.actor,
            f"{plan.facts.target.login}@host:{plan.facts.target.host}",
            plan.facts.grant.realm,
            now,
            grant=plan.facts.grant.id,
            source=caller.source,
            more=(("role", plan.facts.grant.role), ("policy", plan.policy_digest)),
        )
    )
    return True


def _still_so(tx: Tx, outside: Outside, caller: Caller, facts: _Facts, body: CertificateBody) -> bool:
    """Somebody lost something since: whether it was nothing of this, and nobody gave this serial up for lost."""
    if tx.log.logged([(body.ca.fingerprint, body.serial)]):
        return False
    try:
        again = _facts(tx, outside, caller, facts.grant.id, facts.target.host)
    except Error:
        return False
    return is_active(again.grant, outside.clock()) and replace(again, epoch=facts.epoch) == facts


async def _record_refusal(outside: Outside, caller: Caller, error: Error, grant_id: str, host_name: str) -> None:
    def job(tx: Tx) -> None:
        grant = tx.grants.by_id(grant_id)
        known = grant is not None and any(target.host == host_name for target in grant.targets)
        tx.log.append(
            Event(
                EventType.CERTIFICATE_REFUSED,
                "refused",
                outside.clock(),
                grant.realm if grant is not None else DEFAULT_REALM,
                caller.actor,
                target=f"host:{host_name}" if known else "",
                grant=grant_id if grant is not None else "",
                checks=error.checks,
                source=caller.source,
                detail=(("code", error.code),),
            )
        )

    await outside.store.write(job)
