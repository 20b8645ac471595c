"""The bundle: all that a host has to know of what was taken away. Signed by the online key, for one host.

A host takes one by these rules, in order (invariant 30):
1. It is signed by the online key of the trust list that the host has.
2. It is for this installation, this realm and this very host (its id: not another one of the same name).
3. Its version is greater than that of the last one under the same online key: (restore epoch, state counter, when it
   was made), compared in this order. A list with a new online key begins anew, so that who had the old key for an hour
   cannot have used up all versions. The same bundle once more is no news and no alarm.
4. The KRL that came beside it, or the one the host has, is the one it names (`check_krl`).

It is a whole state and replaces the one before. There is no field in it that opens anything: what a host opens to whom
is made on the host from what it was joined with. After `expires_at` nothing is opened or closed by that: the host goes
on, says so (`is_expired`), and leaves `ended_sessions` of a late one alone, for ports are used again.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from jitgate.ca.envelope import Envelope, open_envelope
from jitgate.ca.trust import check_newer, check_ours
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.fields import Fields, canonical, text_item
from jitgate.core.ids import is_id
from jitgate.core.text import check_name, shown
from jitgate.ssh.pubkey import PublicKey

DOMAIN: Final = b"jitgate-bundle-v1\n"
PAYLOAD_MAX: Final = 1 << 21  # bytes; the three lists at their longest take 1.3 MB
KRL_MAX: Final = 8 << 20  # bytes; a million serials one by one take 8 MB, as a bitmap far less
IDS_MAX: Final = 10_000  # in one list
_PORT_MAX: Final = 65535

BundleVersion = tuple[int, int, int]
"""Restore epoch, state counter, and when it was made (microseconds)."""


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A login that has to end, by the id that the host's agent gave it, and by its port, as the host's sshd sees it."""

    id: str
    port: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """`krl`: SHA-256 of the KRL, lower-case hex. `ended_grants`, `locked` (persons): ids, newest first."""

    installation: str
    realm: str
    host_id: str
    host: str
    version: BundleVersion
    made_at: Micros
    expires_at: Micros
    krl: str
    ended_grants: tuple[str, ...] = ()
    ended_sessions: tuple[EndedSession, ...] = ()
    locked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sessions = [each.id for each in self.ended_sessions]
        if not all(map(is_id, (self.installation, self.host_id, *self.ended_grants, *self.locked, *sessions))):
            raise BadInput("a bundle with something that is no id", code="malformed")
        check_name("realm", self.realm)
        check_name("host", self.host)
        if not is_digest(self.krl):
            raise BadInput("a bundle without its KRL's SHA-256", code="malformed")
        if max(len(self.ended_grants), len(self.ended_sessions), len(self.locked)) > IDS_MAX:
            raise BadInput(f"a bundle with more than {IDS_MAX} ids in one list", code="malformed")
        if self.expires_at <= self.made_at or self.version[2] != self.made_at:
            raise BadInput("a bundle that ends before it begins", code="malformed")


@dataclass(frozen=True, slots=True)
class BundlePin:
    """What a host knows: whose it is, who it is, and the online key of its trust list."""

    installation: str
    realm: str
    host_id: str
    host: str
    online: PublicKey


def bundle_payload(bundle: Bundle) -> bytes:
    return canonical(
        {
            "v": 1,
            "installation": bundle.installation,
            "realm": bundle.realm,
            "host_id": bundle.host_id,
            "host": bundle.host,
            "version": list(bundle.version),
            "made_at": bundle.made_at,
            "expires_at": bundle.expires_at,
            "krl": bundle.krl,
            "ended_grants": list(bundle.ended_grants),
            "ended_sessions": [{"id": each.id, "port": each.port} for each in bundle.ended_sessions],
            "locked": list(bundle.locked),
        }
    )


def take_bundle(unverified: object) -> Bundle:
    """A bundle by its form alone; `BadInput` (`malformed`)."""
    fields = Fields(unverified, "a bundle")
    fields.number("v", 1, 1)
    epoch, counter, made = fields.numbers("version", 3)
    a_text = text_item(26, "an id")
    bundle = Bundle(
        installation=fields.text("installation", 26),
        realm=fields.text("realm", 32),
        host_id=fields.text("host_id", 26),
        host=fields.text("host", 63),
        version=(epoch, counter, made),
        made_at=fields.number("made_at"),
        expires_at=fields.number("expires_at"),
        krl=fields.text("krl", 64),
        ended_grants=tuple(fields.each("ended_grants", IDS_MAX, a_text)),
        ended_sessions=tuple(fields.each("ended_sessions", IDS_MAX, _session)),
        locked=tuple(fields.each("locked", IDS_MAX, a_text)),
    )
    fields.end()
    return bundle


def open_bundle(unverified: Envelope, pin: BundlePin, have: BundleVersion | None) -> Bundle:
    """The bundle, if the host may take it. `have`: the version of the last one under the same online key.

    `BadInput`: `wrong_key`, `signature`, `malformed`, `other_installation`, `other_realm`, `other_host`,
    `old_version`, `same_version`.
    """
    bundle = take_bundle(open_envelope(unverified, DOMAIN, pin.online))
    check_ours(bundle.installation, bundle.realm, pin.installation, pin.realm)
    if (bundle.host_id, bundle.host) != (pin.host_id, pin.host):
        raise BadInput(f"for the host {shown(bundle.host)} with the id {bundle.host_id}", code="other_host")
    check_newer(bundle.version, have)
    return bundle


def krl_digest(krl: bytes) -> str:
    return hashlib.sha256(krl).hexdigest()


def check_krl(bundle: Bundle, krl: bytes) -> None:
    """Nothing, if this is the bundle's KRL; else `BadInput` (`other_krl`)."""
    if not hmac.compare_digest(krl_digest(krl), bundle.krl):
        raise BadInput("the KRL is not the one that the bundle names", code="other_krl")


def is_expired(bundle: Bundle, now: Micros) -> bool:
    """A reason for an alarm, never for opening anything."""
    return now >= bundle.expires_at


def is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")  # noqa: PLR2004  # SHA-256 in hex


def _session(value: object) -> EndedSession:
    fields = Fields(value, "an ended session")
    found = EndedSession(fields.text("id", 26), fields.number("port", 0, _PORT_MAX))
    fields.end()
    return found
