"""Signing in by an identity provider. The ID token is made for the key: its nonce is a hash over it."""

import hashlib
from dataclasses import dataclass, field

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput, Conflict, Denied, Error, NotFound
from jitgate.core.secret import Secret
from jitgate.core.text import check_name, shown
from jitgate.flow.directory import directory_groups
from jitgate.flow.elsewhere import Provider
from jitgate.flow.outside import Outside
from jitgate.flow.people import write_person
from jitgate.flow.ports import Tx
from jitgate.flow.sign_in import Said, SignedIn, complete, publish, record_refusal, refusal_of_stranger
from jitgate.identity.keys import parse_key_line
from jitgate.identity.model import LinkedIdentity, Person
from jitgate.identity.nonce import nonce_for, proof_subject
from jitgate.identity.oidc import LEEWAY, IdToken, TokenRefused, read_header, token_rules, verify_id_token
from jitgate.identity.proof import ProofClaim, verify_proof
from jitgate.identity.sign_in import by_provider
from jitgate.ssh.pubkey import PublicKey


@dataclass(frozen=True, slots=True)
class ProviderEvidence:
    """What a stranger sent. `claim` is the request as it came in, with `proof_subject(provider)` as its subject."""

    unverified_provider: str
    unverified_token: Secret[str]
    unverified_salt: str
    unverified_key: str
    unverified_proof: bytes = field(repr=False)
    claim: ProofClaim


@dataclass(frozen=True, slots=True)
class Known:
    """A token that holds, for a key that proved the request. `nonce`: remembered, so that the token works once."""

    provider: Provider
    token: IdToken
    key: PublicKey
    comment: str
    nonce: str | None


async def sign_in_by_provider(outside: Outside, evidence: ProviderEvidence, source: str) -> SignedIn:
    """Sign in whom the provider's token names, and register the key that it was made for.

    Raises `BadInput`, `Unsafe` (key, proof), `TokenRefused`, `NotFound` (provider), `Denied` (nobody here, disabled,
    gone from the directory), `Conflict`, `Unreachable`; each is in the log before it is raised.
    """
    try:
        known = await check_evidence(outside, evidence)
        done = await finish(outside, known, source)
    except Error as error:
        name = evidence.unverified_provider if evidence.unverified_provider in outside.elsewhere.providers else ""
        await record_refusal(outside, refusal_of_stranger(outside, error.code, "", source, name))
        raise
    return done


async def check_evidence(outside: Outside, evidence: ProviderEvidence) -> Known:
    """The key's proof first, then the token by the provider's rules, with the nonce that this request asks for."""
    key, comment = check_key(outside, evidence.unverified_key, evidence.claim, evidence.unverified_proof)
    provider = provider_of(outside, evidence.unverified_provider)
    if evidence.claim.subject != proof_subject(provider.settings.name):
        raise BadInput("the proof is for another provider", "sign for the one that is named", code="bad_proof")
    nonce = nonce_for(evidence.claim.origin, provider.settings.name, key.fingerprint, evidence.unverified_salt)
    token = await check_token(outside, provider, evidence.unverified_token, provider.settings.client_id, nonce=nonce)
    return Known(provider, token, key, comment, nonce)


def check_key(
    outside: Outside, unverified_line: str, claim: ProofClaim, unverified_proof: bytes
) -> tuple[PublicKey, str]:
    """Key and comment of the line, if that key made the proof. Raises `BadInput`, `Unsafe`."""
    key, comment = parse_key_line(unverified_line, outside.refused_keys)
    if verify_proof(unverified_proof, claim, origins=outside.origins, now=outside.clock()) != key:
        raise BadInput("the proof is by another key", "sign with the key that is sent", code="bad_proof")
    return key, comment


def provider_of(outside: Outside, unverified_name: str) -> Provider:
    provider = outside.elsewhere.providers.get(unverified_name)
    if provider is None:
        names = " ".join(outside.elsewhere.providers)
        hint = f"there is {names}" if names else "there is none: add a [[provider]] to jitgate.toml, then restart serve"
        raise NotFound(f"no provider {shown(unverified_name)}", hint, code="no_provider")
    return provider


async def check_token(
    outside: Outside, provider: Provider, unverified_token: Secret[str], client_id: str, *, nonce: str | None
) -> IdToken:
    """The ID token's words, by the rules of `identity/oidc.py`. Raises `TokenRefused`, `Unreachable`."""
    rules = token_rules(provider.settings, client_id)
    text = unverified_token.reveal()
    key = await provider.key(read_header(text, rules))
    return verify_id_token(text, key, rules, nonce=nonce, now=outside.clock())


async def finish(outside: Outside, known: Known, source: str, *, device: str = "") -> SignedIn:
    """Sign in whom a checked token names. `device`: the waiting sign-in that this ends."""
    settings, token = known.provider.settings, known.token
    if settings.groups == "directory":
        if not token.directory_name:
            hint = f"the provider has to give {settings.directory_claim}, or name another directory_claim"
            raise TokenRefused("the ID token does not say who it is in the directory", hint, code="token_claims")
        await directory_groups(outside, settings, token.directory_name)
    await outside.key_registry.check()  # before the token is used up for nothing
    since = outside.clock()
    done = await outside.store.write(lambda tx: _finish(tx, outside, known, source, device))
    if isinstance(done, Error):
        raise done
    return await publish(outside, done, source, since=since)


def _finish(tx: Tx, outside: Outside, known: Known, source: str, device: str) -> SignedIn | Error:
    """An error is returned, not raised: the token is used up by it."""
    now, token, settings = outside.clock(), known.token, known.provider.settings
    if known.nonce is not None and not use_token(tx, known.nonce, now, token.expires_at):
        return TokenRefused("the ID token was used before", "sign in again: jitctl login", code="token_used")
    if device and not tx.device_sign_ins.remove(device):
        return Conflict("this sign-in has ended", "begin again: jitctl login --device")
    person = _person(tx, outside, known)
    if isinstance(person, Error):
        return person
    if person.disabled_at is not None:
        return Denied("this person is disabled here", "ask who runs this service", code="person_disabled")
    identity = by_provider(person, token)
    said = Said(settings.name, token.groups, token.dropped, token.directory_name, token.expires_at)
    until = now + settings.lifetime
    return complete(tx, outside, identity, known.key, known.comment, source, until=until, said=said)


def use_token(tx: Tx, nonce: str, now: Micros, expires_at: Micros) -> bool:
    digest = hashlib.sha256(b"jitgate-id-token-v1\n" + nonce.encode("ascii")).digest()
    return tx.keys.use_proof(digest, now, expires_at + LEEWAY)


def _person(tx: Tx, outside: Outside, known: Known) -> Person | Error:
    """Whose the identity is; a new person where the settings say so."""
    token, settings = known.token, known.provider.settings
    linked = tx.identities.of_subject(token.issuer, token.subject)
    person = tx.people.by_id(linked.person_id) if linked else None
    if person is not None:
        return person
    if settings.people != "create":
        what = f"nobody here is linked to {shown(token.subject, 255)} of {settings.name}"
        hint = f"an operator does: jitgate user link NAME --provider {settings.name} --subject SUBJECT"
        return Denied(what, hint, code="identity_unknown")
    return _new_person(tx, outside, known)


def _new_person(tx: Tx, outside: Outside, known: Known) -> Person | Error:
    now, token, settings = outside.clock(), known.token, known.provider.settings
    try:
        name = check_name("person", token.name.lower())
    except BadInput:
        what = f"{shown(token.name)} is no name for a person here"
        return Denied(what, f"an operator adds and links one; it came from {settings.name_claim}", code="person_name")
    if tx.people.by_name(name) is not None:
        what = f"there is a person {shown(name)} already, who is not linked to you"
        hint = f"if that is you, sign in as before, then: jitctl identities link {settings.name}"
        return Denied(what, hint, code="person_taken")
    person = Person(outside.new_id(now), name, (), False, None, now)
    service = Actor("service")
    write_person(tx, service, person, None, "")
    link(tx, outside, person, service, token.issuer, token.subject, how="created")
    return person


def link(
    tx: Tx, outside: Outside, person: Person, actor: Actor, issuer: str, subject: str, *, how: str
) -> LinkedIdentity:
    """Inside a transaction: the identity is this person's from now on. Raises `Conflict` if it is somebody's."""
    if (standing := tx.identities.of_subject(issuer, subject)) is not None:
        whose = "already" if standing.person_id == person.id else "to somebody else"
        raise Conflict(f"that identity is linked {whose}", "one identity is one person's")
    now = outside.clock()
    identity = LinkedIdentity(outside.new_id(now), person.id, issuer, subject, now)
    tx.identities.add(identity)
    tx.log.append(identity_event(EventType.IDENTITY_LINKED, person, actor, now, identity, ("how", how)))
    return identity


def identity_event(
    kind: EventType, person: Person, actor: Actor, now: Micros, identity: LinkedIdentity, *more: tuple[str, str]
) -> Event:
    detail = (("issuer", identity.issuer), ("identity", identity.id), *more)
    return Event(kind, "done", now, DEFAULT_REALM, actor, subject=person.id, subject_name=person.name, detail=detail)
