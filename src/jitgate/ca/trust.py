"""The trust list: which CA keys a realm's hosts trust, and which key signs their bundles. Signed by the root key.

A host takes one by these rules, in order (invariant 30):
1. It is signed by the root key that the host pinned when it joined.
2. It is for this installation and this realm.
3. Its version is greater than that of the list the host has: (restore epoch, counter), compared in this order. The
   same list once more is no news and no alarm.
4. No key is for two purposes, and none of them is the root key.
"""

from dataclasses import dataclass
from typing import Final

from jitgate.ca.envelope import Envelope, open_envelope
from jitgate.ca.realms import CaKind
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.fields import Fields, canonical, text_item
from jitgate.core.ids import is_id
from jitgate.core.text import check_name, shown
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key_line

DOMAIN: Final = b"jitgate-trust-v1\n"
PAYLOAD_MAX: Final = 1 << 18  # bytes; the most keys of the largest kind take 150 kB
KEYS_MAX: Final = 16  # of one kind in one realm: a rotation has three at most
LINE_MAX: Final = 3000  # characters; RSA of 16384 bits takes 2,760

TrustVersion = tuple[int, int]
"""Restore epoch and counter."""


@dataclass(frozen=True, slots=True)
class TrustList:
    """`online` signs the bundles. The constructor holds rule 4 but for the root key."""

    installation: str
    realm: str
    version: TrustVersion
    made_at: Micros
    user: tuple[PublicKey, ...]
    host: tuple[PublicKey, ...]
    interception: tuple[PublicKey, ...]
    online: PublicKey

    def __post_init__(self) -> None:
        if not is_id(self.installation):
            raise BadInput("a trust list of an installation without an id", code="malformed")
        check_name("realm", self.realm)
        if max(map(len, (self.user, self.host, self.interception))) > KEYS_MAX:
            raise BadInput(f"a trust list with more than {KEYS_MAX} keys of one kind", code="malformed")
        blobs = [key.blob for key in self.keys()] + [self.online.blob]
        if len(set(blobs)) != len(blobs):
            raise BadInput("a trust list with one key for two purposes", code="foreign_key")
        if self.online.algorithm is not Algorithm.ED25519:
            raise BadInput("a trust list whose online key is not ed25519", code="malformed")

    def keys(self) -> tuple[PublicKey, ...]:
        """All CA keys."""
        return self.user + self.host + self.interception

    def of(self, kind: CaKind) -> tuple[PublicKey, ...]:
        named = {CaKind.USER: self.user, CaKind.HOST: self.host, CaKind.INTERCEPTION: self.interception}
        return named.get(kind, ())


@dataclass(frozen=True, slots=True)
class TrustPin:
    """What a host knows since it joined: whose it is, and the root key."""

    installation: str
    realm: str
    root: PublicKey


def trust_payload(trust: TrustList) -> bytes:
    return canonical(
        {
            "v": 1,
            "installation": trust.installation,
            "realm": trust.realm,
            "version": list(trust.version),
            "made_at": trust.made_at,
            "user": [key.line() for key in trust.user],
            "host": [key.line() for key in trust.host],
            "interception": [key.line() for key in trust.interception],
            "online": trust.online.line(),
        }
    )


def take_trust(unverified: object) -> TrustList:
    """A trust list by its form alone; `BadInput` (`malformed`, `foreign_key`)."""
    fields = Fields(unverified, "a trust list")
    fields.number("v", 1, 1)
    epoch, counter = fields.numbers("version", 2)
    trust = TrustList(
        installation=fields.text("installation", 26),
        realm=fields.text("realm", 32),
        version=(epoch, counter),
        made_at=fields.number("made_at"),
        user=tuple(fields.each("user", KEYS_MAX, _key)),
        host=tuple(fields.each("host", KEYS_MAX, _key)),
        interception=tuple(fields.each("interception", KEYS_MAX, _key)),
        online=_key(fields.text("online", LINE_MAX)),
    )
    fields.end()
    return trust


def open_trust(unverified: Envelope, pin: TrustPin, have: TrustVersion | None) -> TrustList:
    """The list, if the host may take it. `have`: the version that it has.

    `BadInput`: `wrong_key`, `signature`, `malformed`, `other_installation`, `other_realm`, `foreign_key`,
    `old_version` (with `same_version` for the very version it has, which is no reason for an alarm).
    """
    trust = take_trust(open_envelope(unverified, DOMAIN, pin.root))
    check_ours(trust.installation, trust.realm, pin.installation, pin.realm)
    if pin.root in (*trust.keys(), trust.online):
        raise BadInput("a trust list that uses the root key for something else", code="foreign_key")
    check_newer(trust.version, have)
    return trust


def pinned_root(line: str, fingerprint: str) -> PublicKey:
    """The root key of a line, if it has the fingerprint that the join token carries; else `BadInput` (`wrong_key`)."""
    key = _key(line)
    if key.fingerprint != fingerprint or key.algorithm is not Algorithm.ED25519:
        raise BadInput(
            f"the service shows the root key {key.fingerprint}, the token names {shown(fingerprint)}",
            "somebody may stand in between: ask for a new token, and how it was brought here",
            code="wrong_key",
        )
    return key


def check_ours(installation: str, realm: str, our_installation: str, our_realm: str) -> None:
    if installation != our_installation:
        raise BadInput(f"for the installation {shown(installation)}", code="other_installation")
    if realm != our_realm:
        raise BadInput(f"for the realm {shown(realm)}", code="other_realm")


def check_newer(version: tuple[int, ...], have: tuple[int, ...] | None) -> None:
    if have is None or version > have:
        return
    code = "same_version" if version == have else "old_version"
    raise BadInput(f"version {list(version)} is not newer than {list(have)}", code=code)


def _key(value: object) -> PublicKey:
    """A plain key; a certificate is none (invariant 6)."""
    key, comment = parse_public_key_line(text_item(LINE_MAX, "a key")(value))
    if comment or key.line() != value:
        raise BadInput("a key with more than its type and its bytes", code="malformed")
    return key
