"""Hosts, as an operator makes them known. A known host gets a certificate that names it, and nothing else."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.issue import issue
from jitgate.ca.realms import DEFAULT_REALM, Authority, CaKind
from jitgate.ca.shape import shape_host
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import Conflict, Error, NotFound, Unreachable, Unsafe
from jitgate.core.text import shown
from jitgate.flow.audit import record_burnt
from jitgate.flow.authorities import authority_for, trusted
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.hosts.model import Host
from jitgate.ssh.cert import Certificate
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

NONCE_BYTES = 32  # OpenSSH's PROTOCOL.certkeys: the nonce is a CA-made random string, here of 256 bits


@dataclass(frozen=True, slots=True)
class AddedHost:
    """What the host is to be told: who signs for persons, and the certificate it shows."""

    host: Host
    certificate: Certificate
    user_authorities: tuple[PublicKey, ...]


async def add_host(
    outside: Outside,
    actor: Actor,
    *,
    name: str,
    address: str,
    port: int,
    logins: Sequence[str],
    labels: Mapping[str, str],
    host_key_line: str,
    realm: str = DEFAULT_REALM,
) -> AddedHost:
    """Make a host known and sign its certificate. Raises `BadInput`, `Conflict` for a name that stands already."""
    key, _ = parse_public_key_line(host_key_line)
    now = outside.clock()
    host = Host(outside.new_id(now), realm, name, address, port, dict(labels), tuple(logins), key, now)

    def add(tx: Tx) -> None:
        tx.hosts.add(host)
        labels_text = " ".join(f"{key}={value}" for key, value in sorted(host.labels.items()))
        tx.log.append(
            Event(
                EventType.HOST_ADDED,
                "done",
                now,
                realm,
                actor,
                target=f"host:{name}",
                detail=(
                    ("fingerprint", key.fingerprint),
                    ("address", address),
                    ("port", port),
                    ("logins", " ".join(host.logins)),
                    ("labels", labels_text[:2000]),
                ),
            )
        )

    def check(standing: Host | None) -> Error | None:
        return None if standing is None else _exists(name)

    if await outside.store.read(lambda tx: tx.revocations.has_key(key.blob)):
        raise Unsafe("this host key was revoked", "give the host a new one: ssh-keygen -A", code="key_revoked")

    return await certify(outside, actor, host, check, add)


async def renew_host(outside: Outside, actor: Actor, name: str, realm: str = DEFAULT_REALM) -> AddedHost:
    """A new certificate for a known host, for the key it is known by; the old one ends by itself."""
    host = await outside.store.read(lambda tx: tx.hosts.by_name(realm, name))
    if host is None:
        raise _unknown(name)

    def check(standing: Host | None) -> Error | None:
        return None if standing is not None and standing.id == host.id else _unknown(name)

    return await certify(outside, actor, host, check, lambda _: None)


async def certify(
    outside: Outside,
    actor: Actor,
    host: Host,
    check: Callable[[Host | None], Error | None],
    also: Callable[[Tx], Error | None],
) -> AddedHost:
    """Sign a host's certificate, and write it together with `also`. `check` is asked about what stands under the name,
    before signing and again in the transaction that writes; an error of `also`, which then wrote nothing, is raised."""
    now = outside.clock()

    def facts(tx: Tx) -> tuple[int, Authority, tuple[PublicKey, ...]]:
        epoch = tx.epoch()
        if host.realm not in (known := [name for name, _ in tx.realms.all()]):
            raise NotFound(f"no realm {shown(host.realm)}", f"there is {', '.join(known)}: jitgate realm ls")
        if error := check(tx.hosts.by_name(host.realm, host.name)):
            raise error
        users = [each.key for each in trusted(tx) if each.realm == host.realm and each.kind is CaKind.USER]
        return epoch, authority_for(tx, host.realm, CaKind.HOST), tuple(users)

    epoch, authority, user_authorities = await outside.store.read(facts)
    spec = shape_host(host.realm, host.name, host.alias, host.key, authority.key, now)
    serial = await outside.serials.take(outside.store, authority)
    certificate = (await issue(spec, serial, outside.random(NONCE_BYTES), outside.signer)).certificate

    def job(tx: Tx) -> Error | None:
        """An error is returned, not raised: the certificate is signed, so the log has to say that it never leaves."""
        error = check(tx.hosts.by_name(host.realm, host.name))
        if error is None and tx.epoch() != epoch:
            error = Unreachable("too much changed meanwhile", "try again")
        if error is not None:
            record_burnt(tx, outside, certificate)
            return error
        if error := also(tx):
            record_burnt(tx, outside, certificate)
            return error
        tx.certificates.add(certificate.body, authority, now, host=host)
        tx.log.append(certificate_event(certificate, actor, f"host:{host.name}", host.realm, now))
        return None

    if error := await outside.store.write(job):
        raise error
    return AddedHost(host, certificate, user_authorities)


def _exists(name: str) -> Conflict:
    return Conflict(f"there is a host {shown(name)} already", "jitgate host ls; jitgate host rm NAME")


def _unknown(name: str) -> NotFound:
    return NotFound(f"no host {shown(name)}", "jitgate host ls")


async def remove_host(outside: Outside, actor: Actor, name: str, realm: str = DEFAULT_REALM) -> Host:
    """Forget a host: nothing is issued for it any more, and the certificates that it shows are revoked."""
    now = outside.clock()

    def job(tx: Tx) -> Host:
        host = tx.hosts.by_name(realm, name)
        if host is None:
            raise _unknown(name)
        drop_host(tx, host, actor, now)
        return host

    return await outside.store.write(job)


def drop_host(tx: Tx, host: Host, actor: Actor, now: Micros, revocation_id: str | None = None) -> int:
    """Inside a transaction, what taking a host out means; how many certificates of its own are revoked by it."""
    serials = tx.revocations.take_host(host.id, now, revocation_id)
    tx.hosts.remove(host.id, now)
    tx.waiting_hosts.remove(host.realm, host.name)  # an approval that it has not come for
    tx.move_state()
    tx.log.append(Event(EventType.HOST_REMOVED, "done", now, host.realm, actor, target=f"host:{host.name}"))
    return serials


async def list_hosts(outside: Outside) -> list[Host]:
    return await outside.store.read(lambda tx: tx.hosts.all())


def certificate_event(
    certificate: Certificate,
    actor: Actor,
    target: str,
    realm: str,
    now: int,
    *,
    grant: str = "",
    source: str = "",
    more: tuple[tuple[str, str | int], ...] = (),
) -> Event:
    """The entry that a certificate leads to: by key id, by serial, by the digest of what was signed."""
    body = certificate.body
    return Event(
        EventType.CERTIFICATE_ISSUED,
        "allowed",
        now,
        realm,
        actor,
        target=target,
        grant=grant,
        key_id=body.key_id,
        serial=body.serial,
        source=source,
        detail=(
            ("kind", body.type.name.lower()),
            ("ca", body.ca.fingerprint),
            ("digest", hashlib.sha256(certificate.tbs).hexdigest()),
            ("fingerprint", body.key.fingerprint),
            ("valid_after", body.valid_after * SECOND),
            ("valid_before", body.valid_before * SECOND),
            ("principals", " ".join(body.principals)),
            *more,
        ),
    )
