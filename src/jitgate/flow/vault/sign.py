"""Signing under a mount's role: identify, decide, open a grant, sign, commit grant and certificate together, release.

The grant is of this one certificate and ends with it. What it was decided on is read again in the transaction that
commits, whenever the revocation epoch has moved since: a token, policy, role, mount or person that was taken away while
the signer worked leaves a burnt serial and nothing outside.
"""

from dataclasses import dataclass
from functools import partial

from jitgate.audit.events import Event, EventType
from jitgate.ca.issue import SerialUsed, issue
from jitgate.ca.model import IssuedCert
from jitgate.ca.plain import shape_plain
from jitgate.ca.realms import Authority
from jitgate.core.errors import BadInput, Denied, Error, NotSignedIn, TooMany, Unreachable
from jitgate.flow.audit import record_burnt
from jitgate.flow.hosts import NONCE_BYTES, certificate_event
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import Answer, Asked, Holder, allowed, record_refusal
from jitgate.flow.vault.engine import authority_of, role_of
from jitgate.flow.vault.settings import SETTING
from jitgate.grants.model import Grant
from jitgate.grants.plain import open_plain_grant
from jitgate.identity.keys import check_not_refused
from jitgate.identity.vault import Mount, stands_for
from jitgate.policy.vault_role import VaultRole
from jitgate.policy.vault_sign import PlainAsk, PlainPermit, decide_plain, read_ask
from jitgate.ssh.private import dump_private_key, generate_ed25519

ATTEMPTS = 5
RUNNING_MAX = 2000  # grants of one person: taking all away is one transaction
_ISSUE_ONLY = frozenset({"key_type", "key_bits"})


@dataclass(frozen=True, slots=True)
class _Facts:
    epoch: int
    holder: Holder
    role: VaultRole
    digest: str
    authority: Authority


async def sign(outside: Outside, asked: Asked) -> Answer:
    """A certificate for the key that was sent. Raises `Denied`, `BadInput`, ...; each is in the log before."""
    return await _recorded(outside, asked, dict(asked.data))


async def issue_pair(outside: Outside, asked: Asked) -> Answer:
    """A fresh ed25519 key pair and its certificate: the private key is in the answer and nowhere else."""
    wanted = asked.data.get("key_type") or "ed25519"
    if wanted != "ed25519" or asked.data.get("key_bits") not in (None, 0, "", "0"):
        raise BadInput("a key pair is made as ed25519 only", "leave key_type and key_bits out")
    pair = generate_ed25519()
    data = {name: value for name, value in asked.data.items() if name not in _ISSUE_ONLY}
    answer = await _recorded(outside, asked, data | {"public_key": pair.public.line()})
    private = dump_private_key(pair).reveal().decode("ascii")
    more = {"private_key": private, "private_key_type": "ed25519"}
    return Answer(dict(answer.data or {}) | more, warnings=answer.warnings)


async def _sign(outside: Outside, asked: Asked, data: dict[str, object]) -> Answer:
    mount = asked.of_mount()
    wanted = read_ask(data)
    check_not_refused(wanted.key, outside.refused_keys)
    for _ in range(ATTEMPTS):
        facts = await outside.store.read(lambda tx: _facts(tx, outside, asked, mount))
        permit = _decide(outside, asked, mount, wanted, facts)
        now = outside.clock()
        grant = open_plain_grant(permit, "", now, lambda now=now: outside.new_id(now))  # type: ignore[misc]  # mypy reads the default as an argument
        spec = shape_plain(grant, wanted.key, facts.authority.key, now, backdate_s=permit.backdate_s)
        serial = await outside.serials.take(outside.store, facts.authority)
        try:
            issued = await issue(spec, serial, outside.random(NONCE_BYTES), outside.signer)
        except SerialUsed:
            continue
        commit = partial(
            _commit, outside=outside, asked=asked, mount=mount, facts=facts, grant=grant, issued=issued, wanted=wanted
        )
        if await outside.store.write(commit):
            body = issued.certificate.body
            line = issued.certificate.line()
            return Answer({"serial_number": f"{body.serial:x}", "signed_key": f"{line}\n", "issuer_id": mount.id})
    raise Unreachable("too much changed while the certificate was made", "try again")


def _facts(tx: Tx, outside: Outside, asked: Asked, mount: Mount) -> _Facts:
    """The epoch is read first, so that it can only be too old."""
    epoch = tx.epoch()
    holder = allowed(tx, outside, asked)
    if tx.vault.mount("secret", mount.path) != mount:
        raise Denied("the mount has changed", "ask again", code="vault_mount")
    if tx.grants.count_active(holder.person.id, outside.clock()) >= RUNNING_MAX:
        raise TooMany(f"{RUNNING_MAX} certificates of yours are valid", "wait until some end, or ask for less time")
    if mount.realm in holder.person.left:
        raise Denied("permission denied", "this person has left the mount's realm", code="vault_realm_left")
    found = role_of(tx, mount, asked.name)
    if found is None:
        raise BadInput(f"Unknown role: {asked.name}", "list the mount's roles")
    authority = authority_of(tx, mount)
    if authority is None:
        raise BadInput("failed to read CA private key", "write config/ca generate_signing_key=true first")
    return _Facts(epoch, holder, *found, authority)


def _decide(outside: Outside, asked: Asked, mount: Mount, wanted: PlainAsk, facts: _Facts) -> PlainPermit:
    identity = stands_for(facts.holder.token, facts.holder.person)
    return decide_plain(
        identity,
        wanted,
        facts.role,
        realm=mount.realm,
        name=asked.name,
        digest=facts.digest,
        now=outside.clock(),
    )


def _commit(
    tx: Tx,
    outside: Outside,
    asked: Asked,
    mount: Mount,
    facts: _Facts,
    grant: Grant,
    issued: IssuedCert,
    wanted: PlainAsk,
) -> bool:
    """Grant, certificate and both events; or, where something was taken away since, only that the serial is burnt."""
    certificate = issued.certificate
    if tx.epoch() != facts.epoch and not _still_so(tx, outside, asked, mount, facts, issued, wanted):
        record_burnt(tx, outside, certificate)
        return False
    now, actor, target = outside.clock(), facts.holder.actor, f"role:{grant.role}"
    more = (("role", grant.role), ("policy", grant.policy_digest), ("setting", SETTING))
    tx.grants.add(grant)
    tx.log.append(
        Event(
            EventType.GRANT_OPENED,
            "allowed",
            now,
            grant.realm,
            actor,
            target=target,
            grant=grant.id,
            source=asked.source,
            detail=(*more, ("ends_at", grant.ends_at)),
        )
    )
    tx.certificates.add(certificate.body, facts.authority, now, grant=grant)
    event = certificate_event(
        certificate, actor, target, grant.realm, now, grant=grant.id, source=asked.source, more=more
    )
    tx.log.append(event)
    return True


def _still_so(
    tx: Tx, outside: Outside, asked: Asked, mount: Mount, facts: _Facts, issued: IssuedCert, wanted: PlainAsk
) -> bool:
    body = issued.certificate.body
    if tx.log.logged([(body.ca.fingerprint, body.serial)]):
        return False
    try:
        again = _facts(tx, outside, asked, mount)
        permit = _decide(outside, asked, mount, wanted, again)
    except Error:
        return False
    same = (again.holder.person.id, again.role, again.digest, again.authority)
    return same == (facts.holder.person.id, facts.role, facts.digest, facts.authority) and bool(permit.logins)


async def _recorded(outside: Outside, asked: Asked, data: dict[str, object]) -> Answer:
    """The act; its no is `certificate.refused`, unless nobody is known to have asked."""
    try:
        return await _sign(outside, asked, data)
    except Error as error:
        if not await _record(outside, asked, error):  # the token or its policies say no by now
            await record_refusal(outside, asked, error)
        raise


async def _record(outside: Outside, asked: Asked, error: Error) -> bool:
    mount = asked.of_mount()

    def job(tx: Tx) -> None:
        holder = allowed(tx, outside, asked)
        role = tx.vault.entry(mount.id, "role", asked.name)
        tx.log.append(
            Event(
                EventType.CERTIFICATE_REFUSED,
                "refused",
                outside.clock(),
                mount.realm,
                holder.actor,
                target=f"role:{asked.name}" if role else "",
                checks=error.checks,
                source=asked.source,
                detail=(("code", error.code), ("setting", SETTING)),
            )
        )

    try:
        await outside.store.write(job)
    except (NotSignedIn, Denied):
        return False
    return True
