"""Asking for access, and ending it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import Micros
from jitgate.core.errors import Conflict, Denied, Error, NotFound, TooMany
from jitgate.core.text import shown
from jitgate.flow.caller import Caller, check_again, refusal_event
from jitgate.flow.directory import know_groups
from jitgate.flow.outside import Outside
from jitgate.flow.policy import policy_in_force
from jitgate.flow.ports import Tx
from jitgate.grants.lifecycle import end, is_active, open_grant, state
from jitgate.grants.model import ANY_HOST, Grant, Target
from jitgate.grants.renew import narrow, still_permitted
from jitgate.hosts.model import Host
from jitgate.policy.decide import decide
from jitgate.policy.model import Ask, Deny, Facts, Permit, refusal

ACTIVE_MAX = 100  # running grants of one person: more hosts at a time than anybody works on by hand
LISTED_MAX = 200  # grants in one answer; the log has the others


@dataclass(frozen=True, slots=True)
class Opened:
    """`fresh`: opened by this call; otherwise it was running already."""

    grant: Grant
    fresh: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """An ended grant, and what was out: serial and end of each certificate. They are revoked with it."""

    grant: Grant
    certificates: tuple[tuple[int, Micros], ...]


async def request_access(outside: Outside, caller: Caller, ask: Ask, realm: str = "") -> Opened:
    """Open a grant if policy permits the ask now, or find the one that runs already for the same login.

    `realm`: of the host; empty where its name is in one realm only.

    Decided and written in one transaction, refusals too. Raises `Denied` with the checks of the role that came nearest.
    """
    try:
        caller = await know_groups(outside, caller)
        answer = await outside.store.write(lambda tx: _open(tx, outside, check_again(tx, outside, caller), ask, realm))
    except Error as error:
        refused = partial(_record_refusal, outside=outside, caller=caller, ask=ask, error=error, realm=realm)
        await outside.store.write(refused)
        raise
    if isinstance(answer, Opened):
        return answer
    raise answer


async def list_grants(outside: Outside, caller: Caller, *, everybody: bool, ended: bool, host: str = "") -> list[Grant]:
    """The caller's grants; everybody's for an admin who asks so. Newest first; running ones only unless `ended`; those
    on the host of that name only, if one is given."""
    if everybody and not caller.identity.admin:
        raise Denied("you may list your own grants only", "ask an admin for the others")
    person_id = None if everybody else caller.identity.person_id
    now = outside.clock()
    if ended:
        found = await outside.store.read(lambda tx: tx.grants.latest(LISTED_MAX, person_id=person_id))
    else:
        found = await outside.store.read(lambda tx: tx.grants.active(now, person_id=person_id))
    return [grant for grant in found if not host or any(target.host == host for target in grant.targets)]


async def end_grant(outside: Outside, caller: Caller, grant_id: str, reason: str) -> Ended:
    """End a grant before its time: one's own, or as an admin anybody's."""
    now = outside.clock()

    def job(tx: Tx) -> Ended:
        identity = check_again(tx, outside, caller).identity
        grant = tx.grants.by_id(grant_id)
        if grant is None or not (identity.admin or grant.person_id == identity.person_id):
            raise NotFound(f"no grant {shown(grant_id)} of yours", "jitctl grants ls")
        if not is_active(grant, now):
            raise Conflict(f"that grant has {state(grant, now)} already", "jitctl grants ls")
        why = "by its person" if grant.person_id == caller.identity.person_id else "by an admin"
        return _end(tx, grant, caller.actor, why, now, reason=reason, source=caller.source)

    try:
        return await outside.store.write(job)
    except Error as error:
        await outside.store.write(partial(_record_kept, outside=outside, caller=caller, error=error, grant_id=grant_id))
        raise


def end_grants_of(
    tx: Tx, person_id: str, actor: Actor, now: Micros, why: str, *, which: Callable[[Grant], bool] = lambda _: True
) -> None:
    """Inside a transaction: those running grants of a person end."""
    for grant in filter(which, tx.grants.active(now, person_id=person_id)):
        _end(tx, grant, actor, why, now)


def find_host(tx: Tx, name: str, realm: str = "") -> Host:
    """The host of that name: in that realm, or the only one. `NotFound`; `Conflict` where it stands in several."""
    if realm:
        found = tx.hosts.by_name(realm, name)
        if found is None:
            raise NotFound(f"no host {shown(name)} in realm {shown(realm)}", "jitctl vm ls")
        return found
    named = tx.hosts.named(name)
    if not named:
        raise NotFound(f"no host {shown(name)}", "jitctl vm ls")
    if len(named) > 1:
        realms = [host.realm for host in named]
        what = f"{name} stands in {len(realms)} realms: {', '.join(realms)}"
        raise Conflict(what, f"say which: --realm {realms[0]}", code="realm_needed")
    return named[0]


def _open(tx: Tx, outside: Outside, caller: Caller, ask: Ask, realm: str) -> Opened | Denied:
    """A policy's no is returned, with its event in this transaction; what is raised, the caller records."""
    now = outside.clock()
    host = find_host(tx, ask.host, realm)
    decision = decide(caller.identity, ask, Facts(host.facts, now, caller.source), policy_in_force(tx))
    if not isinstance(decision, Permit):
        denied = refusal(decision)
        role = decision.role if isinstance(decision, Deny) else decision.role.name
        _record_refusal(tx, outside, caller, ask, denied, role=role, policy=decision.policy_digest, realm=host.realm)
        return denied
    running = _running(tx, decision, now)
    if running is not None:
        return Opened(running, fresh=False)
    running_now = tx.grants.active(now, person_id=caller.identity.person_id)
    if sum(each.targets[0].host != ANY_HOST for each in running_now) >= ACTIVE_MAX:
        raise TooMany(f"you have {ACTIVE_MAX} running grants", "end some: jitctl grants ls, jitctl grants end ID")
    grant = open_grant(decision, (), now, lambda: outside.new_id(now))
    tx.grants.add(grant)
    detail: list[tuple[str, str | int]] = [
        ("role", grant.role),
        ("policy", grant.policy_digest),
        ("ends_at", grant.ends_at),
    ]
    if ask.ticket:
        detail.append(("ticket", ask.ticket))
    tx.log.append(
        Event(
            EventType.GRANT_OPENED,
            "allowed",
            now,
            grant.realm,
            caller.actor,
            target=f"{decision.login}@host:{host.name}",
            grant=grant.id,
            checks=decision.checks,
            source=caller.source,
            reason=grant.reason,
            detail=tuple(detail),
        )
    )
    return Opened(grant, fresh=True)


def _running(tx: Tx, permit: Permit, now: Micros) -> Grant | None:
    """A grant that gives what the ask wants: same role, host and login, not shorter or longer than asked for, and one
    under which a certificate would be issued now."""
    if permit.ask.minutes is not None:
        return None
    target = Target(permit.ask.host, permit.login)
    bundle = policy_in_force(tx)
    for grant in tx.grants.active(now, person_id=permit.identity.person_id):
        if grant.realm != permit.facts.host.realm or target not in grant.targets or grant.role != permit.role.name:
            continue
        with suppress(Denied):
            again = still_permitted(grant, target, permit.identity, permit.facts, bundle)
            if is_active(narrow(grant, again, now), now):
                return grant
    return None


def _record_refusal(
    tx: Tx,
    outside: Outside,
    caller: Caller,
    ask: Ask,
    error: Error,
    *,
    role: str = "",
    policy: str = "",
    realm: str = "",
) -> None:
    known = realm in {name for name, _ in tx.realms.all()}
    detail = [("code", error.code), *((key, value) for key, value in (("role", role), ("policy", policy)) if value)]
    target = f"{ask.login}@host:{ask.host}" if ask.login else f"host:{ask.host}"
    tx.log.append(
        Event(
            EventType.GRANT_REFUSED,
            "refused",
            outside.clock(),
            realm if known else DEFAULT_REALM,
            caller.actor,
            target=target,
            checks=error.checks,
            source=caller.source,
            reason=ask.reason,
            detail=tuple(detail),
        )
    )


def _record_kept(tx: Tx, outside: Outside, caller: Caller, error: Error, grant_id: str) -> None:
    known = grant_id if tx.grants.by_id(grant_id) else ""
    tx.log.append(refusal_event(outside, caller, EventType.REQUEST_REFUSED, error, grant=known))


def _end(tx: Tx, grant: Grant, actor: Actor, why: str, now: Micros, *, reason: str = "", source: str = "") -> Ended:
    ended = end(grant, why, now)
    tx.grants.end(grant.id, now, why)
    tx.revocations.take_grant(grant.id, now)
    tx.move_state()
    target = grant.targets[0]
    tx.log.append(
        Event(
            EventType.GRANT_ENDED,
            "done",
            now,
            grant.realm,
            actor,
            target=f"role:{grant.role}" if target.host == ANY_HOST else f"{target.login}@host:{target.host}",
            grant=grant.id,
            subject=grant.person_id,
            subject_name=grant.holder.name,
            reason=reason,
            source=source,
            detail=(("why", why),),
        )
    )
    return Ended(ended, tuple(tx.certificates.of_grant(grant.id, now)))
