"""How a host joins: the one-time token that an owner carries to it, and what its host key signs to use it.

The token says where the service is, which root key it has and how its TLS certificate is known, so that the host trusts
nothing that it hears on its way there. Only a hash of its secret is kept by the service. It is for one name.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from jitgate.core.clock import HOUR, Micros
from jitgate.core.errors import BadInput
from jitgate.core.fields import Fields, canonical, read_json
from jitgate.core.ids import Random, is_id
from jitgate.core.secret import Secret
from jitgate.core.text import check_name
from jitgate.ssh.material import FINGERPRINT

NAMESPACE: Final = "jitgate-join@v1"
"""Of the SSHSIG by which a host proves its host key when it joins."""
PREFIX: Final = "jgj_"  # so that secret scanners and people know one when they see it
TOKEN_MAX: Final = 1024  # characters; a URL of the longest kind and the rest take 800
TOKEN_LIFE: Final[Micros] = HOUR  # unless the owner says otherwise
CLOCK_MAX: Final[Micros] = 300_000_000  # a host's clock may be this far off when it joins
_SECRET_BYTES: Final = 32
_URL: Final = re.compile(r"https://[!-~]{1,300}")
_PIN: Final = re.compile(r"(sha256=[0-9a-f]{64})?")
_SECRET: Final = re.compile(r"[0-9a-f]{64}")
_HINT: Final = "an owner makes a new one: jitctl hosts add NAME"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """`root`: the root key's fingerprint. `tls_pin`: `sha256=HEX` of the TLS authority's certificate, or empty for one
    that the host's own store knows. The constructor checks all but what the service alone knows."""

    url: str
    installation: str
    realm: str
    name: str
    root: str
    tls_pin: str
    secret: Secret[str]

    def __post_init__(self) -> None:
        check_name("realm", self.realm)
        check_name("host", self.name)
        if not (
            is_id(self.installation)
            and _URL.fullmatch(self.url)
            and FINGERPRINT.fullmatch(self.root)
            and _PIN.fullmatch(self.tls_pin)
            and _SECRET.fullmatch(self.secret.reveal())
        ):
            raise BadInput("a join token with a field of the wrong form", _HINT, code="join_token")


def new_secret(random: Random) -> Secret[str]:
    return Secret(random(_SECRET_BYTES).hex())


def secret_hash(secret: Secret[str]) -> bytes:
    """SHA-256: what the service keeps. No salt is needed for 256 random bits."""
    return hashlib.sha256(secret.reveal().encode("ascii")).digest()


def unverified_hash(secret: Secret[str]) -> bytes:
    """`secret_hash` of what somebody says is a token's secret. `BadInput` for what never was one: among it the text
    that `identity_hash` is of, which everybody may know."""
    if not _SECRET.fullmatch(secret.reveal()):
        raise BadInput("no token in force for this name", code="join_token")
    return secret_hash(secret)


def identity_hash(issuer: str, subject: str) -> bytes:
    """What stands in a token hash's place for a machine that an identity provider vouches for."""
    return hashlib.sha256(b"jitgate-join-identity-v1\n" + canonical([issuer, subject])).digest()


def write_token(token: JoinToken) -> Secret[str]:
    said = canonical(
        {
            "u": token.url,
            "i": token.installation,
            "r": token.realm,
            "n": token.name,
            "k": token.root,
            "p": token.tls_pin,
            "s": token.secret.reveal(),
        }
    )
    return Secret(PREFIX + base64.urlsafe_b64encode(said).rstrip(b"=").decode("ascii"))


def read_token(unverified: str) -> JoinToken:
    """What `write_token` wrote; else `BadInput` (`join_token`), which does not repeat it."""
    text = unverified.removeprefix(PREFIX)
    if text == unverified or len(unverified) > TOKEN_MAX or not text.isascii():
        raise _bad()
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        fields = Fields(read_json(data, "a join token"), "a join token")
        token = JoinToken(
            url=fields.text("u", 310),
            installation=fields.text("i", 26),
            realm=fields.text("r", 32),
            name=fields.text("n", 63),
            root=fields.text("k", 64),
            tls_pin=fields.text("p", 80),
            secret=Secret(fields.text("s", 64)),
        )
        fields.end()
    except (binascii.Error, BadInput):
        raise _bad() from None
    return token


def join_bytes(installation: str, realm: str, name: str, token_hash: bytes, time: Micros) -> bytes:
    """What the host key signs to join. `token_hash`: `secret_hash`, or 32 zero bytes where no token is used."""
    return f"jitgate-join-v1\n{installation}\n{realm}\n{name}\n{token_hash.hex()}\n{time}\n".encode("ascii")


def _bad() -> BadInput:
    return BadInput("this is no join token", _HINT, code="join_token")
