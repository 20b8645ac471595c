"""Hosts that join by themselves: an owner's word first, then the host's own proof, and again the owner's where a name
stands already.

How a host joins, in order:
1. It proves its host key by a signature over installation, realm, name, token and time, at most 5 minutes old.
2. It has a token in force for that name and realm, which nobody used: it is made known. The same key may ask again with
   the same token, so that a lost answer is no dead end.
3. Else, where the token was used, or a host stands under the name: it waits, and an owner's `approve` names its key.
   So it is with an ID token of a provider that vouches for machines, where an owner has named its subject.
4. A host that is known by this very key may join without a token; it waits for an owner too.
Everybody else gets one answer, whatever was wrong, and is counted.
"""

import base64
import binascii
from dataclasses import dataclass, field

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.envelope import Envelope
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import DAY, MINUTE, Micros
from jitgate.core.errors import BadInput, Conflict, Denied, Error, NotFound, Unreachable
from jitgate.core.secret import Secret
from jitgate.core.text import check_name, shown
from jitgate.flow.bundles import agent_keys, bundle_for, read_told, sign_bundles, trust_list
from jitgate.flow.caller import Caller, check_admin, check_again, refusals_recorded
from jitgate.flow.hosts import AddedHost, certify, drop_host
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.workloads import provider_for_hosts, workload_of
from jitgate.hosts.enrolment import HostState, HostTerms, KeptToken, Waiting
from jitgate.hosts.joining import (
    CLOCK_MAX,
    NAMESPACE,
    TOKEN_LIFE,
    JoinToken,
    identity_hash,
    join_bytes,
    new_secret,
    secret_hash,
    unverified_hash,
    write_token,
)
from jitgate.hosts.model import Host
from jitgate.ssh import sshsig
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

HOST = Actor("unknown")
NO_TOKEN = bytes(32)
WAITING_FOR: Micros = 7 * DAY  # then who waits is forgotten, and so is an approval that nobody came for
LIFE_MAX: Micros = 30 * DAY


@dataclass(frozen=True, slots=True)
class JoinAsked:
    """As it came in. `secret` empty: none."""

    unverified_realm: str
    unverified_name: str
    secret: Secret[str]
    host_key: str
    time: Micros
    signature: str
    source: str
    unverified_provider: str = ""
    id_token: Secret[str] = field(default_factory=lambda: Secret(""))
    """Instead of a secret: a machine's own token of an identity provider."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """How the host shows that it is the one. `provider`, `subject`: whose token it has, instead of a secret."""

    again: bool = False
    life: Micros = TOKEN_LIFE
    provider: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """What a host is told. `root`: whose fingerprint its token carries."""

    installation: str
    added: AddedHost
    root: PublicKey
    trust: Envelope
    bundle: Envelope
    krl: bytes


async def invite_host(
    outside: Outside, caller: Caller, terms: HostTerms, how: Invitation
) -> tuple[Secret[str], KeptToken]:
    """A one-time token for a host of that name; with `how.again` it may take the place of the one that stands. With a
    provider the token tells the host where to go and whom to trust, and lets nobody in by itself.

    Raises `Denied`, `Conflict`, `BadInput`, `Unreachable` where there is nothing that an agent could reach.
    """
    way = outside.agents
    if way is None:
        raise Unreachable("this service has no https address that an agent could reach", "set url = https://...")
    keys, secret, now = await agent_keys(outside), new_secret(outside.random), outside.clock()
    _check_terms(outside, terms, keys.root)
    again = how.again
    if not MINUTE <= how.life <= LIFE_MAX:
        raise BadInput("a token lives from a minute to 30 days")
    hashed = secret_hash(secret)
    if how.provider:
        issuer = provider_for_hosts(outside, how.provider).settings.issuer
        if not how.subject:
            raise BadInput("a provider without a subject", "--subject: the `sub` of the machine's tokens")
        hashed = identity_hash(issuer, how.subject)
    kept = KeptToken(outside.new_id(now), hashed, terms, again, now, now + how.life)

    def job(tx: Tx) -> str:
        admin = check_admin(check_again(tx, outside, caller))
        if terms.realm not in {name for name, _ in tx.realms.all()}:
            raise NotFound(f"no realm {shown(terms.realm)}", "jitgate realm ls")
        if tx.hosts.by_name(terms.realm, terms.name) and not again:
            what = f"there is a host {shown(terms.name)} already"
            raise Conflict(what, "--again lets another machine take its place; or jitctl hosts rm")
        tx.join_tokens.forget(now)
        tx.waiting_hosts.forget(now - WAITING_FOR)
        tx.join_tokens.drop(terms.realm, terms.name)
        if tx.join_tokens.by_hash(hashed):
            raise Conflict("this subject is to join under another name", "jitctl hosts ls; or wait until that is over")
        tx.join_tokens.add(kept)
        _say(tx, now, EventType.HOST_INVITED, admin, terms, ("expires_at", kept.expires_at), ("again", int(again)))
        return tx.value("installation") or ""

    async with refusals_recorded(outside, caller):
        installation = await outside.store.write(job)
    root = keys.root.fingerprint
    token = JoinToken(way.url, installation, terms.realm, terms.name, root, way.tls_pin, secret)
    return write_token(token), kept


async def join_host(outside: Outside, asked: JoinAsked) -> Joined | Waiting:
    """Raises `Denied` (`join_refused`) in one wording for whoever may not, `Unreachable` when it cannot be done now."""
    try:
        key, hashed = await _proved(outside, asked)
        found = await outside.store.read(lambda tx: _decide(tx, outside, asked, key, hashed))
        if isinstance(found, Waiting):
            return await _wait(outside, found)
        return await _let_in(outside, asked, key, hashed, *found)
    except BadInput as error:
        await _refuse(outside, asked, error)
        raise _refusal() from None
    except Denied as error:
        await _refuse(outside, asked, error)
        raise


async def approve_host(outside: Outside, caller: Caller, realm: str, name: str, fingerprint: str) -> Waiting:
    """Let the host that waits with this key in; it gets its answer when it asks again. Raises `NotFound`, `Conflict`
    when it is another key by now, `Denied`."""
    now = outside.clock()

    def job(tx: Tx) -> Waiting:
        admin = check_admin(check_again(tx, outside, caller))
        waiting = tx.waiting_hosts.by_name(realm, name)
        if waiting is None:
            raise NotFound(f"no host {shown(name)} waits", "jitctl hosts ls shows who does")
        if waiting.key.fingerprint != fingerprint:
            what = f"the host that waits has the key {waiting.key.fingerprint}"
            raise Conflict(what, "compare it with ssh-keygen -l on the host, then approve that one")
        tx.waiting_hosts.approve(realm, name, now)
        _say(tx, now, EventType.HOST_APPROVED, admin, waiting.terms, ("fingerprint", fingerprint), ("how", waiting.how))
        return waiting

    async with refusals_recorded(outside, caller):
        return await outside.store.write(job)


async def _proved(outside: Outside, asked: JoinAsked) -> tuple[PublicKey, bytes]:
    """The host key that made the request, and the hash of the token's secret."""
    realm, name = check_name("realm", asked.unverified_realm), check_name("host", asked.unverified_name)
    key, _ = parse_public_key_line(asked.host_key)
    if abs(asked.time - outside.clock()) > CLOCK_MAX:
        raise BadInput("the host's clock is more than 5 minutes off", "set the clock, then join again", code="clock")
    hashed = shown_hash = unverified_hash(asked.secret) if asked.secret else NO_TOKEN
    if asked.unverified_provider:
        workload = await workload_of(outside, asked.unverified_provider, asked.id_token)
        hashed, shown_hash = identity_hash(workload.issuer, workload.subject), secret_hash(asked.id_token)
    installation = await outside.store.recall(("installation",), lambda tx: tx.value("installation") or "")
    try:
        signature = base64.b64decode(asked.signature, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("a signature that is not base64", code="signature") from None
    if sshsig.verify(signature, NAMESPACE, join_bytes(installation, realm, name, shown_hash, asked.time)) != key:
        raise BadInput("a signature by another key", code="signature")
    return key, hashed


def _decide(
    tx: Tx, outside: Outside, asked: JoinAsked, key: PublicKey, hashed: bytes
) -> tuple[HostTerms, str] | Waiting:
    """The terms on which it is let in and how it came, or who waits."""
    now, realm, name = outside.clock(), asked.unverified_realm, asked.unverified_name
    if tx.revocations.has_key(key.blob):
        raise BadInput("the host key was revoked", code="key_revoked")
    standing = tx.hosts.by_name(realm, name)
    waiting = tx.waiting_hosts.by_name(realm, name)
    if waiting and waiting.key == key and waiting.approved_at is not None and not _is_forgotten(waiting, now):
        return waiting.terms, waiting.how
    token = tx.join_tokens.by_hash(hashed) if hashed != NO_TOKEN else None
    if hashed == NO_TOKEN and standing and standing.key == key:
        terms = HostTerms(
            realm, name, standing.address, standing.port, standing.labels, standing.logins, standing.reach
        )
        return Waiting(terms, key, "key", asked.source, now)
    if token is None or (token.terms.realm, token.terms.name) != (realm, name) or token.expires_at <= now:
        raise BadInput("no token in force for this name", code="join_token")
    is_fresh = token.used_at is None and (standing is None or token.again)
    is_same = token.used_by == key and standing is not None and standing.key == key
    how = "oidc" if asked.unverified_provider else "token"
    if is_fresh or is_same:
        return token.terms, how
    return Waiting(token.terms, key, how, asked.source, now)


async def _wait(outside: Outside, asking: Waiting) -> Waiting:
    """Kept once for each key; a key that asks again changes nothing."""

    def job(tx: Tx) -> Waiting:
        before = tx.waiting_hosts.by_name(asking.terms.realm, asking.terms.name)
        if before is not None and _is_forgotten(before, asking.asked_at):
            before = None
        if before is not None and before.key == asking.key:
            return before
        if before is not None and before.approved_at is not None:  # an owner has chosen
            return asking
        tx.waiting_hosts.put(asking)
        detail = (("fingerprint", asking.key.fingerprint), ("how", asking.how))
        _say(tx, asking.asked_at, EventType.HOST_WAITING, HOST, asking.terms, *detail, source=asking.source)
        return asking

    return await outside.store.write(job)


def _is_forgotten(waiting: Waiting, now: Micros) -> bool:
    return now - (waiting.approved_at or waiting.asked_at) > WAITING_FOR


async def _let_in(
    outside: Outside, asked: JoinAsked, key: PublicKey, hashed: bytes, terms: HostTerms, how: str
) -> Joined:
    now = outside.clock()
    standing = await outside.store.read(lambda tx: tx.hosts.by_name(terms.realm, terms.name))
    address = terms.address or asked.source
    same = standing is not None and standing.key == key
    host = Host(
        standing.id if standing and same else outside.new_id(now),
        terms.realm,
        terms.name,
        standing.address if standing and same else address,
        standing.port if standing and same else terms.port,
        standing.labels if standing and same else terms.labels,
        standing.logins if standing and same else terms.logins,
        key,
        standing.added_at if standing and same else now,
        standing.reach if standing and same else terms.reach,
    )

    def check(there: Host | None) -> Error | None:
        """Before signing and in the transaction that writes: the host that stood there is the one that still does."""
        if (there.id if there else "") != (standing.id if standing else ""):
            return Unreachable("the host was changed meanwhile", "try again")
        return None

    def also(tx: Tx) -> Error | None:
        """What was decided has to hold in the transaction that writes: a token is used once."""
        try:
            found = _decide(tx, outside, asked, key, hashed)
        except Error as error:
            return error
        if isinstance(found, Waiting):
            return Unreachable("the token was used meanwhile", "try again")
        if standing is not None and not same:
            drop_host(tx, standing, HOST, now)
        if not same:
            tx.hosts.add(host)
            detail = (("fingerprint", key.fingerprint), ("how", how))
            _say(tx, now, EventType.HOST_ADDED, HOST, terms, *detail, source=asked.source)
        tx.waiting_hosts.remove(terms.realm, terms.name)
        token = tx.join_tokens.by_hash(hashed)
        if token is not None and token.used_at is None:
            tx.join_tokens.use(token.id, now, key)
        tx.host_states.put([HostState(host.id, host.realm, "", None, now)])
        return None

    added = await certify(outside, HOST, host, check, also)
    return await tell_host(outside, added)


async def tell_host(outside: Outside, added: AddedHost) -> Joined:
    """All that a host needs to begin with."""
    host = added.host
    told = await read_told(outside, [host.realm])
    _, trust = await trust_list(outside, host.realm)
    (bundle,) = await sign_bundles(outside, [bundle_for(told, host, outside.clock())])
    keys = await agent_keys(outside)
    return Joined(told.installation, added, keys.root, trust, bundle, told.krls[host.realm][0])


def _check_terms(outside: Outside, terms: HostTerms, any_key: PublicKey) -> None:
    """By the rules that a host has, with a key and, where it is missing, an address in the place of its own."""
    now, address = outside.clock(), terms.address or "192.0.2.1"
    Host(
        outside.new_id(now),
        terms.realm,
        terms.name,
        address,
        terms.port,
        terms.labels,
        terms.logins,
        any_key,
        now,
        terms.reach,
    )


async def _refuse(outside: Outside, asked: JoinAsked, error: Error) -> None:
    kind, now = EventType.HOST_REFUSED, outside.clock()
    if outside.floods.is_first(asked.source, kind, now):
        event = Event(kind, "refused", now, DEFAULT_REALM, HOST, source=asked.source, detail=(("code", error.code),))
        await outside.store.write(lambda tx: tx.log.append(event))


def _refusal() -> Denied:
    """One wording: a stranger learns neither which names there are nor what was wrong."""
    what = "the host is not let in: the token is for another host, used up or over, or the proof does not hold"
    return Denied(
        what, "check the host's clock; an owner makes a new token: jitctl hosts add NAME", code="join_refused"
    )


def _say(
    tx: Tx,
    now: Micros,
    kind: EventType,
    actor: Actor,
    terms: HostTerms,
    *detail: tuple[str, str | int],
    source: str = "",
) -> None:
    labels = " ".join(f"{key}={value}" for key, value in sorted(terms.labels.items()))[:2000]
    logins = " ".join(terms.logins)
    said = (("address", terms.address), ("port", terms.port), ("logins", logins), ("labels", labels))
    target = f"host:{terms.name}"
    tx.log.append(Event(kind, "done", now, terms.realm, actor, target=target, source=source, detail=(*detail, *said)))
