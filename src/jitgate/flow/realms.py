"""Realms: each a trust domain with CA keys, ceilings and hosts of its own. Persons are the installation's.

What keeps realms apart: a role names its realm and covers no host of another; a grant, its certificates and its tickets
are of the host's realm; the signer holds each key for one realm; a host trusts its own realm's user CA alone. A person
has something in a realm by its roles, and loses all of it, and nothing else, by leaving it.
"""

from dataclasses import dataclass

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import Authority, CaKind, Phase
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput, Conflict, NotFound
from jitgate.core.text import check_name, check_reason, shown
from jitgate.flow.authorities import list_key
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.sessions import end_all_of
from jitgate.identity.model import Person

KINDS = (CaKind.USER, CaKind.HOST, CaKind.INTERCEPTION)
MOUNTS = "vault-"  # how the realms of Vault mounts begin; they are made with their mount


@dataclass(frozen=True, slots=True)
class Realm:
    """`hosts`: how many are known in it. `left`: names of persons who have nothing in it any more."""

    name: str
    added_at: Micros
    authorities: tuple[Authority, ...]
    hosts: int
    left: tuple[str, ...]


async def add_realm(outside: Outside, actor: Actor, name: str) -> Realm:
    """Make a realm known whose keys the signer holds, and use its first key of each kind.

    Raises `BadInput`, `Conflict` (`realm_without_keys` while the signer holds no key of some kind for it).
    """
    check_name("realm", name)
    if name.startswith(MOUNTS):
        raise BadInput(f"{shown(name)} would be the realm of a Vault mount", "choose another name")
    held = (await outside.signer.keys()).authorities
    first = {kind: next((k for k in held if (k.realm, k.kind, k.kept) == (name, kind, False)), None) for kind in KINDS}

    def job(tx: Tx) -> Realm:
        if any(name == known for known, _ in tx.realms.all()):
            raise Conflict(f"there is a realm {shown(name)} already", "jitgate realm ls")
        if lacking := [kind for kind, key in first.items() if key is None]:
            what = f"the signer holds no {' and no '.join(lacking)} key for the realm {shown(name)}"
            raise Conflict(what, f"jitgate realm add {name} --print shows what it needs", code="realm_without_keys")
        now = outside.clock()
        tx.realms.add(name, now)
        tx.log.append(Event(EventType.REALM_ADDED, "done", now, name, actor, target=f"realm:{name}"))
        for kind, key in first.items():
            if key is not None:
                list_key(tx, outside, actor, key.key, name, kind, Phase.ACTIVE)
        return _realm(tx, name, now)

    return await outside.store.write(job)


async def list_realms(outside: Outside) -> list[Realm]:
    return await outside.store.read(lambda tx: [_realm(tx, name, at) for name, at in tx.realms.all()])


async def show_realm(outside: Outside, name: str) -> Realm:
    def job(tx: Tx) -> Realm:
        check_realm(tx, name)
        return next(_realm(tx, known, at) for known, at in tx.realms.all() if known == name)

    return await outside.store.read(job)


def check_realm(tx: Tx, name: str) -> str:
    """`NotFound` for a name that no realm has."""
    known = [realm for realm, _ in tx.realms.all()]
    if name not in known:
        raise NotFound(f"no realm {shown(name)}", f"there is {', '.join(known)}: jitgate realm ls")
    return name


async def leave_realm(outside: Outside, actor: Actor, person: str, realm: str, reason: str = "") -> Person:
    """Take away, at once, all that somebody has in one realm, and nothing in any other: no role of it gives anything,
    its grants and sessions end. They come back by `return_to_realm` only. Raises `NotFound`, `Conflict`.
    """
    reason, now = check_reason(reason), outside.clock()

    def job(tx: Tx) -> Person:
        found = _person(tx, person)
        check_realm(tx, realm)
        if realm in found.left:
            raise Conflict(f"{person} has left {realm} already", f"jitgate user return {person} --realm {realm}")
        tx.realms.leave(found.id, realm, now)
        tx.move_epoch()
        tx.log.append(_said(EventType.REALM_LEFT, actor, found, realm, now, reason))
        end_all_of(tx, found.id, actor, now, f"its person left {realm}", which=lambda grant: grant.realm == realm)
        return tx.people.by_id(found.id) or found

    return await outside.store.write(job)


async def return_to_realm(outside: Outside, actor: Actor, person: str, realm: str, reason: str = "") -> Person:
    """What its roles give is given again from now on; what ended stays ended."""
    reason, now = check_reason(reason), outside.clock()

    def job(tx: Tx) -> Person:
        found = _person(tx, person)
        if not tx.realms.come_back(found.id, check_realm(tx, realm)):
            raise Conflict(f"{person} has not left {realm}", f"jitgate user show {person}")
        tx.move_epoch()
        tx.log.append(_said(EventType.REALM_RETURNED, actor, found, realm, now, reason))
        return tx.people.by_id(found.id) or found

    return await outside.store.write(job)


def _person(tx: Tx, name: str) -> Person:
    found = tx.people.by_name(name)
    if found is None:
        raise NotFound(f"no person {shown(name)}", "jitgate user ls")
    return found


def _said(kind: EventType, actor: Actor, person: Person, realm: str, now: Micros, reason: str) -> Event:
    return Event(kind, "done", now, realm, actor, subject=person.id, subject_name=person.name, reason=reason)


def _realm(tx: Tx, name: str, added_at: Micros) -> Realm:
    return Realm(
        name,
        added_at,
        tuple(each for each in tx.authorities.all() if each.realm == name),
        sum(host.realm == name for host in tx.hosts.all()),
        tuple(sorted(person.name for person in tx.people.all() if name in person.left)),
    )
