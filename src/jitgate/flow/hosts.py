"""Hosts, as an operator makes them known. A known host gets a certificate that names it, and nothing else."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.issue import issue
from jitgate.ca.realms import DEFAULT_REALM, Authority, CaKind
from jitgate.ca.shape import shape_host
from jitgate.core.clock import SECOND
from jitgate.core.errors import Conflict, Error, NotFound, Unreachable
from jitgate.core.text import shown
from jitgate.flow.audit import record_burnt
from jitgate.flow.authorities import authority_for
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.sessions.model import Host, host_alias
from jitgate.ssh.cert import Certificate, to_be_signed
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

    def facts(tx: Tx) -> tuple[int, Authority, list[PublicKey]]:
        epoch = tx.epoch()
        if tx.hosts.by_name(realm, name) is not None:
            raise _exists(name)
        return (
            epoch,
            authority_for(tx, realm, CaKind.HOST),
            [each.key for each in tx.authorities.all() if each.realm == realm and each.kind is CaKind.USER],
        )

    epoch, authority, user_authorities = await outside.store.read(facts)
    spec = shape_host(realm, name, host_alias(realm, name), key, authority.key, now)
    serial = await outside.serials.take(outside.store, authority)
    issued = await issue(spec, serial, outside.random(NONCE_BYTES), outside.signer)
    certificate = issued.certificate

    def job(tx: Tx) -> Error | None:
        """An error is returned, not raised: the certificate is signed, so the log has to say that it never leaves."""
        standing = tx.hosts.by_name(realm, name)
        if standing is not None or tx.epoch() != epoch:
            record_burnt(tx, outside, certificate)
            return _exists(name) if standing else Unreachable("too much changed meanwhile", "try again")
        tx.hosts.add(host)
        tx.certificates.add(certificate.body, authority, now, host=host)
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
        tx.log.append(certificate_event(certificate, actor, f"host:{name}", realm, now))
        return None

    if error := await outside.store.write(job):
        raise error
    return AddedHost(host, certificate, tuple(user_authorities))


def _exists(name: str) -> Conflict:
    return Conflict(f"there is a host {shown(name)} already", "jitgate host ls; jitgate host rm NAME")


async def remove_host(outside: Outside, actor: Actor, name: str, realm: str = DEFAULT_REALM) -> Host:
    """Forget a host: nothing is issued for it any more."""
    now = outside.clock()

    def job(tx: Tx) -> Host:
        host = tx.hosts.by_name(realm, name)
        if host is None:
            raise NotFound(f"no host {shown(name)}", "jitgate host ls")
        tx.hosts.remove(host.id, now)
        tx.move_epoch()
        tx.log.append(Event(EventType.HOST_REMOVED, "done", now, realm, actor, target=f"host:{name}"))
        return host

    return await outside.store.write(job)


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
            ("digest", hashlib.sha256(to_be_signed(body, certificate.nonce)).hexdigest()),
            ("fingerprint", body.key.fingerprint),
            ("valid_after", body.valid_after * SECOND),
            ("valid_before", body.valid_before * SECOND),
            ("principals", " ".join(body.principals)),
            *more,
        ),
    )
