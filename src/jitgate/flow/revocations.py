"""Taking back what was given: certificates, keys, persons, hosts, grants, CA keys.

One transaction does all of it: it ends grants (and with them sessions), takes registrations away, writes down what
hosts have to refuse, and moves the revocation epoch. So an issue that began before it finds, in its own transaction,
that its facts are no longer so, and does not commit: what is out is in the list, and nothing more comes out.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM, Authority, CaKind, Phase
from jitgate.ca.revocation import Out, Revocation, What
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput, Conflict, Denied, NotFound
from jitgate.core.ids import is_id
from jitgate.core.text import check_reason, shown
from jitgate.flow.caller import Caller, check_again, refusals_recorded
from jitgate.flow.hosts import drop_host
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.registry import withdraw_key
from jitgate.flow.sessions import end_all_of
from jitgate.identity.model import Person, RegisteredKey
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

LISTED_MAX = 200  # revocations in one answer; the log has the others
_RANGE = re.compile(r"([1-9][0-9]{0,18})-([1-9][0-9]{0,18})")
_SERIAL = re.compile(r"[1-9][0-9]{0,18}")
_WHY = "it was revoked"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be revoked. `subject`: a serial, `FIRST-LAST`, a key's line, fingerprint or id, a name, a grant's id,
    a CA key's fingerprint. `ca`: a CA key's fingerprint, where serials of several would do."""

    what: What
    subject: str
    ca: str = ""
    realm: str = DEFAULT_REALM
    reason: str = ""


@dataclass(slots=True)
class _Act:
    """One revocation while it is made. `mine`: the id of who may only take back what is their own."""

    tx: Tx
    outside: Outside
    actor: Actor
    now: Micros
    source: str = ""
    reason: str = ""
    mine: str | None = None
    removed: list[RegisteredKey] = field(default_factory=list)


async def revoke(outside: Outside, caller: Caller, order: Order) -> Revocation:
    """Take something back: an admin anything, everybody else their own certificates, keys, grants, or all of them.

    Raises `BadInput`, `NotFound`, `Denied`, `Conflict`; each is in the log before it is raised.
    """
    removed: list[RegisteredKey] = []

    def job(tx: Tx) -> Revocation:
        identity = check_again(tx, outside, caller).identity
        mine = None if identity.admin else identity.person_id
        act = _Act(tx, outside, caller.actor, outside.clock(), caller.source, check_reason(order.reason), mine)
        made = _ACTS[order.what](act, order)
        removed[:] = act.removed
        return made

    async with refusals_recorded(outside, caller):
        made = await outside.store.write(job)
    await _withdraw(outside, removed)
    return made


async def revoke_as_operator(outside: Outside, actor: Actor, order: Order) -> Revocation:
    """As `revoke`, by whoever runs the service."""
    removed: list[RegisteredKey] = []

    def job(tx: Tx) -> Revocation:
        act = _Act(tx, outside, actor, outside.clock(), reason=check_reason(order.reason))
        made = _ACTS[order.what](act, order)
        removed[:] = act.removed
        return made

    made = await outside.store.write(job)
    await _withdraw(outside, removed)
    return made


async def list_revocations(outside: Outside, caller: Caller, *, everybody: bool) -> list[Revocation]:
    """Newest first: those of what was the caller's; all for an admin who asks so."""
    if everybody and not caller.identity.admin:
        raise Denied("you may list revocations of your own only", "ask an admin for the others")
    person_id = None if everybody else caller.identity.person_id
    return await outside.store.read(lambda tx: tx.revocations.latest(LISTED_MAX, person_id=person_id))


async def find_revocation(outside: Outside, caller: Caller, revocation_id: str) -> Revocation:
    found = await outside.store.read(lambda tx: tx.revocations.by_id(revocation_id))
    if found is None or not (caller.identity.admin or found.person_id == caller.identity.person_id):
        raise NotFound(f"no revocation {shown(revocation_id)} of yours", "jitctl revoke ls")
    return found


def revoke_person(
    tx: Tx, outside: Outside, actor: Actor, person: Person, *, reason: str = "", source: str = ""
) -> tuple[Revocation, list[RegisteredKey]]:
    """Inside a transaction: all that somebody has is taken back: sign-ins, grants, certificates, sessions, keys.

    Hand the keys to `withdraw_keys` when it is durable.
    """
    act = _Act(tx, outside, actor, outside.clock(), source, reason)
    made = _begin(act, What.PERSON, person.name, person_id=person.id)
    tx.sign_ins.end_all_of(person.id, act.now)
    serials = tx.revocations.take_person(person.id, act.now, made.id)
    why = f"all that its person had was revoked ({made.id})"
    end_all_of(tx, person.id, actor, act.now, why, which=lambda _: True)
    keys = _take_keys(act, made, tx.keys.of_person(person.id), person.name)
    return _finish(act, made, serials, keys, subject=person), act.removed


def revoke_authority(
    tx: Tx, outside: Outside, actor: Actor, authority: Authority, *, reason: str = "", source: str = ""
) -> Revocation:
    """Inside a transaction: a CA key, and by it all that it signed. It signs no more, and is trusted no more.

    Grants stay: their certificates are made anew as soon as another key is in use.
    """
    act = _Act(tx, outside, actor, outside.clock(), source, reason)
    if tx.revocations.has_key(authority.key.blob):
        raise Conflict("this CA key is revoked already", "jitctl revoke ls --everybody")
    made = _begin(act, What.CA, f"{authority.kind} {authority.key.fingerprint}", realm=authority.realm)
    keys = tx.revocations.take_keys([authority.key.blob], authority.realm, act.now, made.id, everywhere=False)
    if authority.phase is not Phase.RETIRED:
        tx.authorities.set_phase(authority.id, Phase.RETIRED)
        detail = (("ca", authority.key.fingerprint), ("kind", authority.kind.value))
        tx.log.append(Event(EventType.CA_KEY_RETIRED, "done", act.now, authority.realm, actor, detail=detail))
    return _finish(act, made, 0, keys, ca=authority.key.fingerprint)


async def withdraw_keys(outside: Outside, removed: list[RegisteredKey], owner: str) -> None:
    """Take the entries of revoked keys out of the key registry, where there is one."""
    for key in removed:
        await withdraw_key(outside, key, owner)


async def _withdraw(outside: Outside, removed: list[RegisteredKey]) -> None:
    for key in removed:
        person = await outside.store.read(lambda tx, key=key: tx.people.by_id(key.person_id))  # type: ignore[misc]  # a default is how a loop's value is kept
        await withdraw_keys(outside, [key], person.name if person else "")


# Each kind of order


def _certificate(act: _Act, order: Order) -> Revocation:
    if not _SERIAL.fullmatch(order.subject):
        raise BadInput(f"not a serial: {shown(order.subject)}", "as `jitctl cert show` and the log say it")
    found = [
        out
        for out in act.tx.revocations.certificates(int(order.subject))
        if act.mine in (None, out.person_id) and order.ca in ("", out.ca)
    ]
    if not found:
        raise NotFound(f"no certificate of yours has the serial {order.subject}", "jitctl audit --serial SERIAL")
    if len(found) > 1:
        raise BadInput(f"{len(found)} CA keys gave out this serial", f"--ca one of {' '.join(out.ca for out in found)}")
    out = found[0]
    if out.valid_before <= act.now:
        raise Conflict("that certificate has ended already", "nothing is left to revoke")
    made = _begin(act, What.CERTIFICATE, f"{out.serial} {out.key_id}", realm=out.realm, person_id=out.person_id)
    serials = act.tx.revocations.take_serial(out.authority_id, out.serial, act.now, made.id)
    serials += _end_grant(act, out, made)
    serial = str(out.serial)
    return _finish(act, made, serials, 0, grant=out.grant_id, ca=out.ca, first=serial, last=serial)


def _serials(act: _Act, order: Order) -> Revocation:
    _only_admins(act)
    given = _RANGE.fullmatch(order.subject)
    if given is None:
        raise BadInput(f"not a range of serials: {shown(order.subject)}", "FIRST-LAST, the first not above the last")
    first, last = int(given[1]), int(given[2])
    authority = _authority(act.tx, order.ca, order.realm)
    if first > last:
        raise BadInput(f"the range {first}-{last} runs backwards", "FIRST-LAST")
    given_out = act.tx.authorities.next_serial(authority.id)
    if last >= given_out:
        what = f"this CA key has given out serials up to {given_out - 1} only"
        raise BadInput(what, "a key that somebody else signs with is revoked as a whole: jitctl revoke ca")
    made = _begin(act, What.SERIALS, f"{first}-{last} of {authority.key.fingerprint}", realm=authority.realm)
    serials, grants = act.tx.revocations.valid_in(authority.id, first, last, act.now)
    act.tx.revocations.take_range(authority.id, first, last, authority.realm, made.id)
    for grant_id in grants:
        _end_grant_of_id(act, grant_id, made)
    return _finish(act, made, serials, 0, ca=authority.key.fingerprint, first=str(first), last=str(last))


def _key(act: _Act, order: Order) -> Revocation:
    key, registered = _named_key(act, order.subject)
    if act.tx.revocations.has_key(key.blob):
        raise Conflict("this key is revoked already", "jitctl revoke ls")
    if any(authority.key == key for authority in act.tx.authorities.all()):
        raise BadInput("that is a CA key", f"jitctl revoke ca {key.fingerprint}")
    if host := next((host for host in act.tx.hosts.all() if host.key == key), None):
        raise BadInput(f"that is the key of the host {host.name}", f"jitctl revoke host {host.name}")
    person = act.tx.people.by_id(registered.person_id) if registered else None
    made = _begin(act, What.KEY, key.fingerprint, person_id=person.id if person else "")
    if registered and person:
        keys = _take_keys(act, made, [registered], person.name)
    else:
        keys = act.tx.revocations.take_keys([key.blob], DEFAULT_REALM, act.now, made.id, everywhere=True)
    return _finish(act, made, 0, keys, subject=person, fingerprint=key.fingerprint)


def _person(act: _Act, order: Order) -> Revocation:
    person = act.tx.people.by_name(order.subject)
    if person is None or act.mine not in (None, person.id):
        raise NotFound(f"no person {shown(order.subject)} that you may revoke", "jitctl whoami")
    made, act.removed = revoke_person(act.tx, act.outside, act.actor, person, reason=act.reason, source=act.source)
    return made


def _host(act: _Act, order: Order) -> Revocation:
    _only_admins(act)
    host = act.tx.hosts.by_name(order.realm, order.subject)
    if host is None:
        raise NotFound(f"no host {shown(order.subject)} in {shown(order.realm)}", "jitctl hosts ls")
    made = _begin(act, What.HOST, host.name, realm=host.realm)
    target = (host.realm, host.name)
    for grant in act.tx.grants.active(act.now):
        if any((grant.realm, each.host) == target for each in grant.targets):
            _end_grant_of_id(act, grant.id, made)
    serials = drop_host(act.tx, host, act.actor, act.now, made.id)
    keys = act.tx.revocations.take_keys([host.key.blob], host.realm, act.now, made.id, everywhere=False)
    return _finish(act, made, serials, keys, target=f"host:{host.name}", fingerprint=host.key.fingerprint)


def _grant(act: _Act, order: Order) -> Revocation:
    grant = act.tx.grants.by_id(order.subject)
    if grant is None or act.mine not in (None, grant.person_id):
        raise NotFound(f"no grant {shown(order.subject)} of yours", "jitctl grants ls")
    made = _begin(act, What.GRANT, grant.id, realm=grant.realm, person_id=grant.person_id)
    serials = act.tx.revocations.take_grant(grant.id, act.now, made.id)
    _end_grant_of_id(act, grant.id, made)
    return _finish(act, made, serials, 0, grant=grant.id)


def _ca(act: _Act, order: Order) -> Revocation:
    _only_admins(act)
    found = next((each for each in act.tx.authorities.all() if each.key.fingerprint == order.subject), None)
    if found is None:
        raise NotFound(f"no CA key {shown(order.subject)}", "its fingerprint: jitgate ca ls")
    return revoke_authority(act.tx, act.outside, act.actor, found, reason=act.reason, source=act.source)


_ACTS: dict[What, Callable[[_Act, Order], Revocation]] = {
    What.CERTIFICATE: _certificate,
    What.SERIALS: _serials,
    What.KEY: _key,
    What.PERSON: _person,
    What.HOST: _host,
    What.GRANT: _grant,
    What.CA: _ca,
}


# What they are made of


def _only_admins(act: _Act) -> None:
    if act.mine is not None:
        raise Denied("only an administrator may revoke that", "your own: a certificate, key, grant, or yourself")


def _authority(tx: Tx, wanted: str, realm: str) -> Authority:
    """The one named by its fingerprint, or the one that signs for persons in the realm."""
    for each in tx.authorities.all():
        if wanted == each.key.fingerprint:
            return each
        if not wanted and (each.realm, each.kind, each.phase) == (realm, CaKind.USER, Phase.ACTIVE):
            return each
    raise NotFound(f"no CA key {shown(wanted)}", "its fingerprint: jitgate ca ls")


def _named_key(act: _Act, named: str) -> tuple[PublicKey, RegisteredKey | None]:
    if is_id(named) or named.startswith("SHA256:"):
        found = act.tx.revocations.registered(named)
        if found is None or act.mine not in (None, found.person_id):
            raise NotFound(f"no registered key {shown(named)} of yours", "jitctl keys ls; or give the key's .pub file")
        return found.key, found
    key, _ = parse_public_key_line(named)
    registered = act.tx.keys.current(key)
    if act.mine is not None and (registered is None or registered.person_id != act.mine):
        raise NotFound("that key is not registered to you", "jitctl keys ls")
    return key, registered


def _take_keys(act: _Act, made: Revocation, registered: list[RegisteredKey], owner: str) -> int:
    """Registrations go with the keys, and the sessions that were opened by them end."""
    taken = act.tx.revocations.take_keys(
        [each.key.blob for each in registered], DEFAULT_REALM, act.now, made.id, everywhere=True
    )
    for each in registered:
        act.tx.keys.remove(each.id, act.now)
        detail = (("fingerprint", each.key.fingerprint), ("key", each.id), ("why", f"revoked ({made.id})"))
        act.tx.log.append(
            Event(
                EventType.KEY_REMOVED,
                "done",
                act.now,
                DEFAULT_REALM,
                act.actor,
                subject=each.person_id,
                subject_name=owner,
                source=act.source,
                detail=detail,
            )
        )
    act.removed += registered
    return taken


def _end_grant(act: _Act, out: Out, made: Revocation) -> int:
    """A certificate without its grant: else the next one would be fetched within the minute."""
    if not out.grant_id:
        return 0
    serials = act.tx.revocations.take_grant(out.grant_id, act.now, made.id)
    _end_grant_of_id(act, out.grant_id, made)
    return serials


def _end_grant_of_id(act: _Act, grant_id: str, made: Revocation) -> None:
    grant = act.tx.grants.by_id(grant_id)
    if grant is not None:
        why = f"{_WHY} ({made.id})"
        end_all_of(act.tx, grant.person_id, act.actor, act.now, why, which=lambda each: each.id == grant_id)


def _begin(act: _Act, what: What, subject: str, *, realm: str = DEFAULT_REALM, person_id: str = "") -> Revocation:
    """The row first: what is revoked names it. The counter moves with it, and so does the epoch."""
    made = Revocation(
        id=act.outside.new_id(act.now),
        realm=realm,
        what=what,
        subject=subject,
        person_id=person_id,
        made_by=act.actor.name or act.actor.kind,
        made_at=act.now,
        counter=act.tx.move_state(),
        serials=0,
        keys=0,
    )
    act.tx.revocations.add(made)
    return made


def _finish(
    act: _Act,
    made: Revocation,
    serials: int,
    keys: int,
    *,
    subject: Person | None = None,
    target: str = "",
    grant: str = "",
    **more: str,
) -> Revocation:
    act.tx.revocations.count(made.id, serials, keys)
    subject = subject or (act.tx.people.by_id(made.person_id) if made.person_id else None)
    detail = (
        ("revocation", made.id),
        ("what", made.what.value),
        ("serials", serials),
        ("keys", keys),
        ("counter", made.counter),
        *more.items(),
    )
    act.tx.log.append(
        Event(
            EventType.REVOCATION_MADE,
            "done",
            act.now,
            made.realm,
            act.actor,
            target=target,
            subject=subject.id if subject else "",
            subject_name=subject.name if subject else "",
            grant=grant,
            source=act.source,
            reason=act.reason,
            detail=detail,
        )
    )
    return replace(made, serials=serials, keys=keys)
