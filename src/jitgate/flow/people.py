"""Persons, as an operator keeps them: added, disabled, listed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.errors import Conflict, NotFound
from jitgate.core.secret import Secret
from jitgate.core.text import check_name, shown
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.sessions import end_all_of
from jitgate.identity import passwords, sealing, totp
from jitgate.identity.model import Credential, Person


@dataclass(frozen=True, slots=True)
class NewPerson:
    """Shown once: `password` and the one-time code's seed."""

    person: Person
    password: Secret[str]
    seed: Secret[bytes]
    uri: Secret[str]


async def add_person(
    outside: Outside,
    actor: Actor,
    name: str,
    *,
    groups: Sequence[str] = (),
    admin: bool = False,
    password: Secret[str] | None = None,
    issuer: str = "jitgate",
) -> NewPerson:
    """A local user with a password (made here if none is given) and a TOTP seed. Raises `BadInput`, `Conflict`."""
    check_name("person", name)
    if password is None:
        password = passwords.generate_password(outside.random)
    passwords.check_strength(password, name)
    now = outside.clock()
    person = _new(outside, name, groups, admin=admin)
    seed = totp.new_seed(outside.random)
    sealed = sealing.seal(outside.sealing_key, sealing.TOTP_SEED, person.id, seed, outside.random)
    hashed = await asyncio.get_running_loop().run_in_executor(
        outside.hashing, passwords.hash_password, password, outside.random
    )
    credential = Credential(person.id, hashed, sealed, 0)
    await outside.store.write(lambda tx: write_person(tx, actor, person, credential, outside.new_id(now)))
    return NewPerson(person, password, seed, totp.uri(seed, name, issuer))


async def add_plain_person(
    outside: Outside, actor: Actor, name: str, *, groups: Sequence[str] = (), admin: bool = False
) -> Person:
    """Somebody without a password: they sign in by a provider that an identity of theirs is linked to."""
    check_name("person", name)
    person = _new(outside, name, groups, admin=admin)
    await outside.store.write(lambda tx: write_person(tx, actor, person, None, ""))
    return person


def _new(outside: Outside, name: str, groups: Sequence[str], *, admin: bool) -> Person:
    now = outside.clock()
    return Person(outside.new_id(now), name, tuple(dict.fromkeys(groups)), admin, None, now)


def write_person(tx: Tx, actor: Actor, person: Person, credential: Credential | None, identity_id: str) -> None:
    """Inside a transaction: the person and the event. Raises `Conflict` if somebody has the name."""
    if tx.people.by_name(person.name) is not None:
        raise Conflict(f"there is a person {shown(person.name)} already", "choose another name, or: jitgate user ls")
    tx.people.add(person, credential, identity_id)
    detail = (("groups", " ".join(person.groups)), ("admin", int(person.admin)))
    tx.log.append(
        Event(
            EventType.PERSON_ADDED,
            "done",
            person.created_at,
            DEFAULT_REALM,
            actor,
            subject=person.id,
            subject_name=person.name,
            detail=detail,
        )
    )


async def disable_person(outside: Outside, actor: Actor, name: str) -> Person:
    """At once: no sign-in, no new certificate, every grant ended. What is out is revoked, and the keys for as long."""
    return await _set_disabled(outside, actor, name, disabled=True)


async def enable_person(outside: Outside, actor: Actor, name: str) -> Person:
    return await _set_disabled(outside, actor, name, disabled=False)


async def list_people(outside: Outside) -> list[Person]:
    return await outside.store.read(lambda tx: tx.people.all())


async def _set_disabled(outside: Outside, actor: Actor, name: str, *, disabled: bool) -> Person:
    now = outside.clock()

    def job(tx: Tx) -> Person:
        person = tx.people.by_name(name)
        if person is None:
            raise NotFound(f"no person {shown(name)}", "jitgate user ls")
        if (person.disabled_at is not None) == disabled:
            raise Conflict(f"{name} is {'disabled' if disabled else 'enabled'} already")
        tx.people.set_disabled(person.id, now if disabled else None)
        tx.move_state()
        kind = EventType.PERSON_DISABLED if disabled else EventType.PERSON_ENABLED
        tx.log.append(Event(kind, "done", now, DEFAULT_REALM, actor, subject=person.id, subject_name=person.name))
        if disabled:
            tx.sign_ins.end_all_of(person.id, now)
            end_all_of(tx, person.id, actor, now, "its person was disabled", which=lambda _: True)
        return tx.people.by_id(person.id) or person

    return await outside.store.write(job)
