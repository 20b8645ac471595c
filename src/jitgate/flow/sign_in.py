"""Signing in and out. A key is registered inside a sign-in, by its own proof, in the same transaction."""

import asyncio
from dataclasses import dataclass, replace

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import Micros
from jitgate.core.errors import Error
from jitgate.core.ids import Random
from jitgate.core.secret import Secret
from jitgate.flow.caller import Caller
from jitgate.flow.keys import register_key
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.registry import publish_key
from jitgate.identity import passwords, throttle
from jitgate.identity.model import Person, RegisteredKey, SignIn, VerifiedIdentity
from jitgate.identity.sign_in import (
    LIFETIME,
    Accepted,
    Attempt,
    Evidence,
    Facts,
    RefusedWhy,
    SignInRefused,
    check_proof,
    identify,
)
from jitgate.identity.sign_in import begin as begin_attempt
from jitgate.identity.tokens import new_token, token_hash
from jitgate.ssh.pubkey import PublicKey


@dataclass(frozen=True, slots=True)
class SignedIn:
    token: Secret[str]
    identity: VerifiedIdentity
    sign_in: SignIn
    key: RegisteredKey


@dataclass(frozen=True, slots=True)
class Said:
    """What a provider's token said that stays with the sign-in. `dropped`: groups whose names no role can have."""

    provider: str
    groups: tuple[str, ...]
    dropped: int
    directory_name: str
    token_ends_at: Micros


async def sign_in(outside: Outside, evidence: Evidence, source: str) -> SignedIn:
    """Sign a local user in and register the key that proved the request.

    Raises `BadInput` or `Unsafe` for a wrong key or proof, `Throttled`, `NotSignedIn` with one wording for all else.
    """
    try:
        key, comment = check_proof(
            evidence, origins=outside.origins, refused_keys=outside.refused_keys, now=outside.clock()
        )
        await outside.key_registry.check()  # before a code is used up for nothing
        attempt, account = await outside.store.write(lambda tx: _begin(tx, outside, evidence, key, comment, source))
    except Error as error:
        await record_refusal(outside, refusal_of_stranger(outside, error.code, "", source))
        raise
    now = outside.clock()
    facts = await outside.store.read(lambda tx: _facts(tx, outside, evidence.unverified_name, now))
    answer, new_hash = await asyncio.get_running_loop().run_in_executor(
        outside.hashing, _identify, attempt, facts, outside.random
    )
    finished: SignedIn | SignInRefused | Error = (
        answer
        if isinstance(answer, SignInRefused)
        else (await outside.store.write(lambda tx: _finish(tx, outside, account, answer, new_hash, source)))
    )
    if isinstance(finished, SignedIn):
        try:
            return await publish(outside, finished, source, since=now)
        except Error as error:
            finished = error
    if isinstance(finished, SignInRefused):
        await record_refusal(outside, refusal_of_stranger(outside, finished.why.value, finished.person_id, source))
        raise finished.error()
    await record_refusal(outside, refusal_of_stranger(outside, finished.code, "", source))
    raise finished


async def publish(outside: Outside, done: SignedIn, source: str, *, since: Micros) -> SignedIn:
    """Have the key registry know the key before the token leaves; else the sign-in has ended before it began.

    `since`: a moment before the transaction that wrote it. Raises `Unreachable`, `Conflict`.
    """
    try:
        await publish_key(outside, done.key, done.identity.name, source, since=since)
    except Error as error:
        why = error.what
        await outside.store.write(lambda tx: _end(tx, outside, done, source, why))
        raise
    return done


def _end(tx: Tx, outside: Outside, done: SignedIn, source: str, why: str) -> None:
    actor = Actor("person", done.identity.person_id, done.identity.name)
    end_sign_in(tx, done.sign_in, actor, outside.clock(), why, source=source)


async def sign_out(outside: Outside, caller: Caller) -> None:
    now, mine = outside.clock(), caller.sign_in
    await outside.store.write(lambda tx: end_sign_in(tx, mine, caller.actor, now, "signed out", source=caller.source))


def end_sign_in(
    tx: Tx, sign_in: SignIn, actor: Actor, now: Micros, why: str, *, source: str = "", whose: Person | None = None
) -> None:
    """Inside a transaction. `whose`: its person, where somebody else ends it."""
    tx.sign_ins.end(sign_in.id, now)
    tx.move_epoch()
    tx.log.append(
        Event(
            EventType.SIGN_IN_ENDED,
            "done",
            now,
            DEFAULT_REALM,
            actor,
            subject=whose.id if whose else "",
            subject_name=whose.name if whose else "",
            source=source,
            detail=(("sign_in", sign_in.id), ("why", why)),
        )
    )


def _begin(
    tx: Tx, outside: Outside, evidence: Evidence, key: PublicKey, comment: str, source: str
) -> tuple[Attempt, str]:
    """Count the attempt before anything slow: guesses in parallel gain nothing."""
    account, address = _account(tx, evidence.unverified_name, key), throttle.address_subject(source)
    attempt = begin_attempt(
        evidence,
        key,
        comment,
        account=tx.throttles.get("account", account),
        address=tx.throttles.get("address", address),
        now=outside.clock(),
    )
    tx.throttles.put("account", account, attempt.account)
    tx.throttles.put("address", address, attempt.address)
    return attempt, account


def _account(tx: Tx, unverified_name: str, key: PublicKey) -> str:
    """Whose failures are counted: of the typed name, apart for a device that has signed in under it before."""
    registered = tx.keys.current(key)
    owner = tx.people.by_id(registered.person_id) if registered else None
    known = owner is not None and owner.name == unverified_name
    return throttle.account_subject(unverified_name, key.fingerprint if known else "")


def _facts(tx: Tx, outside: Outside, unverified_name: str, now: Micros) -> Facts:
    person = tx.people.by_name(unverified_name)
    credential = tx.people.credential(person.id) if person else None
    return Facts(person, credential, outside.sealing_key, now)


def _identify(attempt: Attempt, facts: Facts, random: Random) -> tuple[Accepted | SignInRefused, str | None]:
    """The slow part: the answer, and a new hash of the password if the stored one is out of date."""
    answer = identify(attempt, facts)
    if isinstance(answer, Accepted) and answer.rehash:
        return answer, passwords.hash_password(attempt.evidence.unverified_password, random)
    return answer, None


def _finish(
    tx: Tx, outside: Outside, account: str, accepted: Accepted, new_hash: str | None, source: str
) -> SignedIn | SignInRefused | Error:
    """An error is returned, not raised: the code is used up by it, and the refusal is in the log."""
    now, person_id = outside.clock(), accepted.identity.person_id
    person = tx.people.by_id(person_id)
    if person is None or person.disabled_at is not None:  # disabled while the password was being hashed
        return SignInRefused(RefusedWhy.DISABLED, person_id)
    if not tx.people.use_totp_step(person_id, accepted.totp_step):  # the same code in a parallel request
        return SignInRefused(RefusedWhy.REPLAYED_CODE, person_id)
    if new_hash is not None:
        tx.people.set_password_hash(person_id, new_hash)
    forgive(tx, account, source)
    return complete(tx, outside, accepted.identity, accepted.key, accepted.comment, source, until=now + LIFETIME)


def forgive(tx: Tx, account: str, source: str) -> None:
    """After a success: what counted against the account, and what `forgiven` takes back of the address."""
    tx.throttles.put("account", account, None)
    address = throttle.address_subject(source)
    tx.throttles.put("address", address, throttle.forgiven(tx.throttles.get("address", address)))


def complete(
    tx: Tx,
    outside: Outside,
    identity: VerifiedIdentity,
    key: PublicKey,
    comment: str,
    source: str,
    *,
    until: Micros,
    said: Said | None = None,
) -> SignedIn | Error:
    """Inside a transaction: the key registered, the sign-in written, its event. An error is returned, not raised."""
    now, actor = outside.clock(), Actor("person", identity.person_id, identity.name)
    try:
        registered = register_key(tx, outside, key, comment, actor, source, how="sign-in")
    except Error as error:
        return error
    token = new_token(outside.random)
    row = SignIn(outside.new_id(now), identity.person_id, token_hash(token), identity.factors, now, until)
    more: tuple[tuple[str, str | int], ...] = ()
    if said:
        row = replace(
            row,
            provider=said.provider,
            issuer=identity.issuer,
            subject=identity.subject,
            groups=said.groups,
            directory_name=said.directory_name,
            token_ends_at=said.token_ends_at,
        )
        more = (
            ("token_ends_at", said.token_ends_at),
            ("provider", row.provider),
            ("issuer", row.issuer),
            ("groups", " ".join(row.groups)),
            ("dropped", said.dropped),
        )
    tx.sign_ins.add(row)
    tx.log.append(
        Event(
            EventType.SIGN_IN_SUCCEEDED,
            "allowed",
            now,
            DEFAULT_REALM,
            actor,
            source=source,
            detail=(
                ("sign_in", row.id),
                ("factors", " ".join(factor for factor, _ in row.factors)),
                ("fingerprint", registered.key.fingerprint),
                ("expires_at", row.expires_at),
                *more,
            ),
        )
    )
    return SignedIn(token, identity, row, registered)


def refusal_of_stranger(outside: Outside, code: str, person_id: str, source: str, provider: str = "") -> Event:
    return Event(
        EventType.SIGN_IN_REFUSED,
        "refused",
        outside.clock(),
        DEFAULT_REALM,
        Actor("unknown"),
        subject=person_id,
        source=source,
        detail=(("code", code), *((("provider", provider),) if provider else ())),
    )


async def record_refusal(outside: Outside, event: Event) -> None:
    if outside.floods.is_first(event.source, event.type, event.time):
        await outside.store.write(lambda tx: tx.log.append(event))
