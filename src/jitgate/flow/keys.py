"""A person's registered keys. A new one needs its own proof, and the proof of one that is registered already."""

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.errors import BadInput, NotFound, Unsafe
from jitgate.flow.caller import Caller, check_again, refusals_recorded
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.registry import publish_key, withdraw_key
from jitgate.identity import keys
from jitgate.identity.model import RegisteredKey
from jitgate.identity.proof import LEEWAY, ProofClaim, verify_proof
from jitgate.ssh.pubkey import PublicKey


async def list_keys(outside: Outside, caller: Caller) -> list[RegisteredKey]:
    return await outside.store.read(lambda tx: tx.keys.of_person(caller.identity.person_id))


async def add_key(
    outside: Outside, caller: Caller, unverified_line: str, claim: ProofClaim, unverified_proof: bytes
) -> RegisteredKey:
    """Register the key on `unverified_line`, whose holder signed the same claim as the request's own proof.

    The claim works once. Raises `BadInput`, `Unsafe`, `Conflict`, `TooMany`; each is in the log before it is raised.
    """
    now = outside.clock()

    def job(tx: Tx) -> RegisteredKey:
        check_again(tx, outside, caller)
        if not tx.keys.use_proof(claim.digest(), now, now + 2 * LEEWAY):
            raise BadInput("this request was made before", "make a new one", code="bad_proof")
        return register_key(tx, outside, key, comment, caller.actor, caller.source, how="registered key")

    async with refusals_recorded(outside, caller, EventType.KEY_REFUSED):
        key, comment = keys.parse_key_line(unverified_line, outside.refused_keys)
        if verify_proof(unverified_proof, claim, origins=outside.origins, now=now) != key:
            raise BadInput("the new key did not sign this request", "sign with the key that is to be added")
        registered = await outside.store.write(job)
        await publish_key(outside, registered, caller.identity.name, caller.source, since=now)
    return registered


async def remove_key(outside: Outside, caller: Caller, key_id: str) -> RegisteredKey:
    """Remove one of the caller's keys. What was issued for it ends by itself; nothing new is issued for it."""
    now = outside.clock()

    def job(tx: Tx) -> RegisteredKey:
        check_again(tx, outside, caller)
        mine = next((key for key in tx.keys.of_person(caller.identity.person_id) if key.id == key_id), None)
        if mine is None:
            raise NotFound("no such key of yours", "jitctl keys ls")
        tx.keys.remove(mine.id, now)
        tx.move_epoch()
        detail = (("fingerprint", mine.key.fingerprint), ("key", mine.id))
        tx.log.append(
            Event(EventType.KEY_REMOVED, "done", now, DEFAULT_REALM, caller.actor, source=caller.source, detail=detail)
        )
        return mine

    async with refusals_recorded(outside, caller):
        removed = await outside.store.write(job)
    await withdraw_key(outside, removed, caller.identity.name)
    return removed


def register_key(
    tx: Tx, outside: Outside, key: PublicKey, comment: str, actor: Actor, source: str, *, how: str
) -> RegisteredKey:
    """Inside a transaction: the registration that stands, or a new one with its event."""
    now = outside.clock()
    if tx.revocations.has_key(key.blob):
        raise Unsafe("this key was revoked", "make a new one", code="key_revoked")
    current = tx.keys.current(key)
    registered = keys.register(
        key,
        comment,
        person_id=actor.person,
        registered=tx.keys.of_person(actor.person),
        current=current,
        new_id=outside.new_id(now),
        now=now,
    )
    if registered is current:
        return registered
    tx.keys.add(registered)
    detail = (
        ("fingerprint", key.fingerprint),
        ("algorithm", key.algorithm.value),
        ("key", registered.id),
        ("how", how),
    )
    tx.log.append(Event(EventType.KEY_REGISTERED, "allowed", now, DEFAULT_REALM, actor, source=source, detail=detail))
    return registered
