"""Who calls: a session token's person, and the registered key that proved the request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.errors import BadInput, Denied, Error, NotSignedIn
from jitgate.core.secret import Secret
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.registry import confirm_key
from jitgate.identity.model import Person, RegisteredKey, SignIn, VerifiedIdentity
from jitgate.identity.proof import ProofClaim, verify_proof
from jitgate.identity.sign_in import check_in_force, resume, stood_for, with_groups
from jitgate.identity.tokens import token_hash
from jitgate.ssh.pubkey import PublicKey

_ADMINS = "an admin: jitgate user add NAME --admin"
_REGISTER = "jitctl keys ls lists yours; jitctl keys add FILE, or a new jitctl login, registers one"


@dataclass(frozen=True, slots=True)
class Caller:
    """`source`: the address the request came from. `key`: the registered key that proved it, if it was proved.
    `directory`: the groups that the directory gave for this request, if it was asked."""

    identity: VerifiedIdentity
    sign_in: SignIn
    source: str
    key: RegisteredKey | None = None
    directory: tuple[str, ...] | None = None

    @property
    def actor(self) -> Actor:
        return Actor(self.identity.kind.value, self.identity.person_id, self.identity.name)

    def proved_key(self) -> RegisteredKey:
        """The key of a proved request; `Denied` otherwise: a session token alone is not enough."""
        if self.key is None:
            raise Denied("this needs a signature by a registered key", "use jitctl, which signs its requests")
        return self.key


async def authenticate(outside: Outside, token: Secret[str], source: str) -> Caller:
    """The caller of a request that carries a session token; `NotSignedIn` if it has none in force."""
    hashed = token_hash(token)
    sign_in, person, identity = await outside.store.recall(("sign-in", hashed), lambda tx: _stood_for(tx, hashed))
    check_in_force(sign_in, person, outside.clock())
    check_provider(outside, sign_in)
    return Caller(identity, sign_in, source)


def check_provider(outside: Outside, sign_in: SignIn) -> None:
    """What an operator took out of the settings does not go on: `NotSignedIn`."""
    if not sign_in.provider:
        return
    provider = outside.elsewhere.providers.get(sign_in.provider)
    if provider is None or provider.settings.issuer != sign_in.issuer:
        raise NotSignedIn("the provider of this sign-in is not set up any more", "sign in again: jitctl login")


def resume_caller(tx: Tx, outside: Outside, hashed_token: bytes, source: str) -> Caller:
    """Inside a transaction: the caller as of now."""
    sign_in, person = _signed_in(tx, hashed_token)
    return Caller(resume(sign_in, person, outside.clock()), sign_in, source)


def _stood_for(tx: Tx, hashed_token: bytes) -> tuple[SignIn, Person, VerifiedIdentity]:
    """Who that is, whether the sign-in is in force or not."""
    sign_in, person = _signed_in(tx, hashed_token)
    return sign_in, person, stood_for(sign_in, person)


def _signed_in(tx: Tx, hashed_token: bytes) -> tuple[SignIn, Person]:
    sign_in = tx.sign_ins.by_token_hash(hashed_token)
    person = tx.people.by_id(sign_in.person_id) if sign_in else None
    if sign_in is None or person is None:
        raise NotSignedIn("the sign-in has ended", "sign in again: jitctl login")
    return sign_in, person


def check_again(tx: Tx, outside: Outside, caller: Caller) -> Caller:
    """Inside the deciding transaction: the caller as of now, whose sign-in and key are still in force.

    Between the proof's check and this somebody may have been disabled, or the key removed. Raises `NotSignedIn`,
    `Denied`; the latter also for a request that was not proved.
    """
    key = caller.proved_key()
    now = resume_caller(tx, outside, caller.sign_in.token_hash, caller.source)
    registered = tx.keys.current(key.key)
    if registered is None or registered.person_id != now.identity.person_id:
        raise Denied("the key is not registered to you any more", _REGISTER, code="key_not_registered")
    if caller.directory is not None:
        identity = with_groups(now.identity, caller.directory)
        now = replace(now, identity=identity, directory=caller.directory)
    return replace(now, key=registered)


async def prove(outside: Outside, caller: Caller, claim: ProofClaim, unverified_proof: bytes) -> Caller:
    """The same caller with the key that signed `claim`; `BadInput` or `Denied` if it is not one of theirs."""
    if claim.subject != caller.identity.person_id:
        raise BadInput("the proof is for another person", "sign for your own person id", code="bad_proof")
    key = verify_proof(unverified_proof, claim, origins=outside.origins, now=outside.clock())
    registered = await outside.store.recall(("key", key), lambda tx: _registered(tx, key))
    if registered.person_id != caller.identity.person_id:
        raise _not_registered()
    await confirm_key(outside, registered, caller.identity.name)
    return Caller(caller.identity, caller.sign_in, caller.source, registered, caller.directory)


def _registered(tx: Tx, key: PublicKey) -> RegisteredKey:
    registered = tx.keys.current(key)
    if registered is None:
        raise _not_registered()
    return registered


def _not_registered() -> Denied:
    what = "the key that signed this request is not registered to you"
    return Denied(what, _REGISTER, code="key_not_registered")


async def record_unproved(outside: Outside, caller: Caller, error: Error, method: str, route: str) -> None:
    """A token without its person's key is how a stolen token looks: recorded, a flood of it counted."""
    event = refusal_event(outside, caller, EventType.REQUEST_REFUSED, error, ("method", method), ("route", route))
    if outside.floods.is_first(caller.source, event.type, event.time, caller.actor):
        await outside.store.write(lambda tx: tx.log.append(event))


async def record_too_large(outside: Outside, source: str, method: str, route: str) -> None:
    """A body that was not read to its end: nobody knows whose it is."""
    kind, now = EventType.REQUEST_REFUSED, outside.clock()
    if outside.floods.is_first(source, kind, now):
        detail = (("code", "too_large"), ("method", method), ("route", route))
        event = Event(kind, "refused", now, DEFAULT_REALM, Actor("unknown"), source=source, detail=detail)
        await outside.store.write(lambda tx: tx.log.append(event))


def check_admin(caller: Caller) -> Actor:
    """Who acts, if they may administer; else `Denied`."""
    if not caller.identity.admin:
        raise Denied("this is for admins", _ADMINS, code="not_admin")
    return caller.actor


@asynccontextmanager
async def refusals_recorded(
    outside: Outside, caller: Caller, kind: EventType = EventType.REQUEST_REFUSED
) -> AsyncIterator[None]:
    """What is refused within is in the log before it is raised."""
    try:
        yield
    except Error as error:
        event = refusal_event(outside, caller, kind, error)
        await outside.store.write(lambda tx: tx.log.append(event))
        raise


def refusal_event(
    outside: Outside, caller: Caller, kind: EventType, error: Error, *more: tuple[str, str], grant: str = ""
) -> Event:
    """That the caller asked for something and was refused, for an event's detail that names the error's code."""
    return Event(
        kind,
        "refused",
        outside.clock(),
        DEFAULT_REALM,
        caller.actor,
        grant=grant,
        source=caller.source,
        detail=(("code", error.code), *more),
    )
