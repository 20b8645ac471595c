"""What the service has told this host and the host holds to, on disk: verified when it came, and again when it is read.

    trust.json        the trust list, as the root key signed it
    bundle.json       the bundle, as the online key signed it
    krl-SHA256        the revocation list that the bundle names
    certificate.pub   the newest host certificate

Nothing here opens anything by itself. A file that is lost, torn or forged is as none: the service sends it again, and
what sshd reads stays what it was.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jitgate.agent import durable
from jitgate.agent.pins import Pins
from jitgate.agent.trust import HostTrust
from jitgate.ca.envelope import Envelope, take_envelope
from jitgate.ca.trust import PAYLOAD_MAX as TRUST_MAX
from jitgate.ca.trust import TrustList, open_trust
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import BadInput, Error
from jitgate.core.fields import read_json
from jitgate.hosts.agent_wire import Have
from jitgate.hosts.bundle import KRL_MAX, Bundle, BundleVersion, check_krl, open_bundle
from jitgate.hosts.bundle import PAYLOAD_MAX as BUNDLE_MAX
from jitgate.ssh.cert import Certificate, CertType, parse_certificate_line
from jitgate.ssh.krl import parse_krl

_CERTIFICATE_MAX: Final = 1 << 16
_JSON_MORE: Final = 1024  # bytes of an envelope around its payload's base64


@dataclass(slots=True)
class Held:
    """`krl`: the one that `bundle` names. `troubles`: what was wrong with the files, by their names."""

    pins: Pins
    state: Path
    trust: TrustList | None = None
    bundle: Bundle | None = None
    krl: bytes | None = None
    certificate: Certificate | None = None
    troubles: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> BundleVersion | None:
        return self.bundle.version if self.bundle else None

    @property
    def online(self) -> str:
        """The fingerprint of the key that signs bundles; empty before the first trust list."""
        return self.trust.online.fingerprint if self.trust else ""

    def have(self) -> Have:
        trust = self.trust.version if self.trust else None
        return Have(self.version, trust, self.bundle.krl if self.bundle else "")

    def host_trust(self) -> HostTrust:
        """What sshd has to be told; `BadInput` while something of it is missing or does not fit."""
        if self.trust is None or self.certificate is None:
            raise BadInput("there is no trust list or no host certificate yet", "is the service reached?")
        if not self.trust.user:
            raise BadInput("the trust list names no user CA key", "on the server: jitgate ca ls")
        pins = self.pins
        return HostTrust(
            realm=pins.realm,
            host=pins.host,
            alias=pins.alias,
            scopes=pins.scopes,
            logins=pins.logins,
            user_ca=self.trust.user,
            host_key=self.certificate.body.key,
            host_certificate=self.certificate,
        )


def load(pins: Pins, state: Path) -> Held:
    """What the folder holds, as far as it is sound."""
    held = Held(pins, state)
    with _noted(held, "trust.json"):
        if found := _envelope(state / "trust.json", TRUST_MAX):
            held.trust = open_trust(found, pins.trust_pin, None)
    with _noted(held, "bundle.json"):
        if held.trust and (found := _envelope(state / "bundle.json", BUNDLE_MAX)):
            bundle = open_bundle(found, pins.bundle_pin(held.trust.online), None)
            krl = durable.get(_krl_file(state, bundle.krl), KRL_MAX)
            if krl is None:
                raise BadInput("its revocation list is missing")
            check_krl(bundle, krl)
            held.bundle, held.krl = bundle, krl
    with _noted(held, "certificate.pub"):
        line = durable.get(state / "certificate.pub", _CERTIFICATE_MAX)
        if line is not None:
            held.certificate = parse_certificate_line(line.decode("ascii", "replace").strip())
    return held


def accept_trust(held: Held, unverified: Envelope) -> TrustList:
    """The list by all rules of `open_trust`, kept. `BadInput`, `NotWritten`: nothing has changed."""
    trust = open_trust(unverified, held.pins.trust_pin, held.trust.version if held.trust else None)
    _put_envelope(held.state / "trust.json", unverified)
    if held.trust and held.trust.online != trust.online:
        held.bundle = None  # bundles begin anew with a new online key; what is revoked stays in place until then
    held.trust = trust
    return trust


def check_bundle(held: Held, unverified: Envelope, krl: bytes | None) -> tuple[Bundle, bytes]:
    """The bundle by all rules of `open_bundle`, with its list; `BadInput`. Nothing is changed."""
    if held.trust is None:
        raise BadInput("a bundle before any trust list", code="malformed")
    bundle = open_bundle(unverified, held.pins.bundle_pin(held.trust.online), held.version)
    found = krl if krl is not None else held.krl
    if found is None:
        raise BadInput("a bundle without its revocation list", code="other_krl")
    check_krl(bundle, found)
    parse_krl(found)
    return bundle, found


def keep_bundle(held: Held, envelope: Envelope, bundle: Bundle, krl: bytes) -> None:
    """Holds to it from here on, and keeps it on disk: the list first, so that the bundle never names a missing one.

    `NotWritten`: it is held to, but a restart will not know it.
    """
    held.bundle, held.krl = bundle, krl
    file = _krl_file(held.state, bundle.krl)
    if not file.exists():
        durable.put(file, krl, durable.PRIVATE)
    _put_envelope(held.state / "bundle.json", envelope)
    for old in held.state.glob("krl-*"):
        if old != file:
            old.unlink(missing_ok=True)


def accept_certificate(held: Held, line: str, now: Micros, *, key_line: str = "") -> Certificate:
    """A host certificate for this host and no other name, by a host CA key of the trust list, good now; kept.

    `key_line`: the host key, where there is no certificate yet that says it. `BadInput`, `NotWritten`.
    """
    certificate = parse_certificate_line(line.strip())
    body, names = certificate.body, {held.pins.alias, held.pins.host}
    key = held.certificate.body.key.line() if held.certificate else key_line
    if body.type is not CertType.HOST or body.key.line() != key:
        raise BadInput("not a host certificate for this host's key", code="wrong_certificate")
    if not set(body.principals) <= names:
        raise BadInput("a host certificate that names more than this host", code="wrong_certificate")
    if held.trust is None or body.ca not in held.trust.host:
        raise BadInput("a host certificate by a key that the trust list does not name", code="wrong_certificate")
    if not body.valid_after <= now // SECOND < body.valid_before:
        raise BadInput("a host certificate that is not good now", "look at this host's clock", code="wrong_certificate")
    durable.put(held.state / "certificate.pub", (certificate.line() + "\n").encode(), durable.PRIVATE)
    held.certificate = certificate
    return certificate


def renew_at(certificate: Certificate) -> Micros:
    """Two thirds of its life."""
    begin, end = certificate.body.valid_after, certificate.body.valid_before
    return (begin + (end - begin) * 2 // 3) * SECOND


def _krl_file(state: Path, digest: str) -> Path:
    return state / f"krl-{digest}"


def _envelope(path: Path, most: int) -> Envelope | None:
    data = durable.get(path, most * 4 // 3 + _JSON_MORE)
    return None if data is None else take_envelope(read_json(data, "an envelope"), most)


def _put_envelope(path: Path, envelope: Envelope) -> None:
    durable.put(path, json.dumps(envelope.json()).encode(), durable.PRIVATE)


@contextlib.contextmanager
def _noted(held: Held, name: str) -> Iterator[None]:
    try:
        yield
    except Error as error:
        held.troubles[name] = error.what
