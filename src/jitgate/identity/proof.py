"""The proof that goes with a request: an SSHSIG by the person's key over what they ask for (security invariant 12).

A session token alone opens nothing: registering a key, issuing, ending and approving need this as well. The signature
covers service, subject, request and time, so it cannot be used at another service, for another person, for another
request or later. It can be repeated unchanged within the minute: an act that must not happen twice remembers
`ProofClaim.digest`. Base install only: `jitctl` makes what the service checks.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import BadInput
from jitgate.core.text import shown
from jitgate.ssh import sshsig
from jitgate.ssh.pubkey import BadSignature, PublicKey
from jitgate.ssh.wire import FormatError

NAMESPACE = "request@jitgate"
LEEWAY: Micros = 60 * SECOND  # how far the two clocks may be apart (design: 60 s at most)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PORT_MAX = 65535
_HOST = r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])"
_ORIGIN = re.compile(rf"(https?)://{_HOST}(?::([1-9][0-9]{{0,4}}))?")
_SUBJECT = re.compile(r"[!-~]{1,128}")  # visible ASCII: a person's id, or the name they typed
_METHOD = re.compile(r"[A-Z]{1,16}")
_PATH = re.compile(r"/[!-~]{0,2047}")


@dataclass(frozen=True, slots=True)
class ProofClaim:
    """What is signed. The constructor raises `BadInput` on any field that could blur where the next one begins.

    `origin`: scheme://host[:port] as dialled (`origin_of`). `subject`: the person's id; for a sign-in the typed name.
    `path`: the request target as sent, with its query. `body`: the bytes sent, b"" if none. `time`: of the signing.
    """

    origin: str
    subject: str
    method: str
    path: str
    body: bytes = field(repr=False)  # a sign-in's body holds the password
    time: Micros

    def __post_init__(self) -> None:
        _check_origin(self.origin)
        if not _SUBJECT.fullmatch(self.subject):  # not shown: people type passwords where a name belongs
            raise BadInput("the proof's subject is no name", "visible ASCII characters only, at most 128")
        if not _METHOD.fullmatch(self.method):
            raise BadInput(f"not a request method: {shown(self.method)}", "capital letters only")
        if not _PATH.fullmatch(self.path):
            raise BadInput(f"not a request path: {shown(self.path)}", "begins with /, visible ASCII, at most 2048")
        if not 0 <= self.time < 1 << 63:
            raise BadInput("the proof's time is out of range", "microseconds since 1970")

    def message(self) -> bytes:
        """The signed text, one field a line; the body stands in it by its SHA-256."""
        return (
            f"jitgate-proof-v1\n{self.origin}\n{self.subject}\n{self.method} {self.path}\n{self.time}\n"
            f"{hashlib.sha256(self.body).hexdigest()}\n"
        ).encode("ascii")

    def digest(self) -> bytes:
        """What is remembered where a proof must not be used twice: a signature could come in many forms."""
        return hashlib.sha256(self.message()).digest()


@lru_cache(maxsize=64)  # a service has one or two; a refusal is not kept
def _check_origin(text: str) -> None:
    origin = _ORIGIN.fullmatch(text)
    if origin is None or int(origin[2] or 1) > _PORT_MAX or int(origin[2] or 0) == _DEFAULT_PORTS[origin[1]]:
        raise BadInput(f"not an origin: {shown(text)}", "scheme://host[:port], lower case, no default port")


def origin_of(url: str) -> str:
    """The origin of a URL as client and service both write it: lower case, no default port. Raises `BadInput`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    else:
        if parts.scheme not in _DEFAULT_PORTS or parts.username is not None:
            host = None
    if not host:
        raise BadInput(f"not the address of a service: {shown(url)}", "like https://jitgate.example.com")
    name = f"[{host}]" if ":" in host else host
    suffix = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{name}{suffix}"


def make_proof(claim: ProofClaim, key: PublicKey, sign: Callable[[bytes], bytes]) -> bytes:
    """The SSHSIG blob for the claim. `sign` takes bytes and gives an SSH signature blob by `key` (file or agent)."""
    return sshsig.encode(key, NAMESPACE, sign(sshsig.signed_bytes(NAMESPACE, claim.message())))


def verify_proof(unverified_blob: bytes, claim: ProofClaim, *, origins: frozenset[str], now: Micros) -> PublicKey:
    """The key that signed this claim: whose it is, is for the caller to ask. Else `BadInput`, code `bad_proof`.

    1. the origin is one of ours; 2. signed at most `LEEWAY` before or after `now`; 3. an SSHSIG in our namespace by
    the key it carries, over this claim (PROTOCOL.sshsig; security keys with user presence).
    """
    if claim.origin not in origins:
        raise _bad(f"the proof is for another service: {shown(claim.origin)}", "dial this service by its own address")
    if abs(now - claim.time) > LEEWAY:
        apart = (now - claim.time) // SECOND
        raise _bad(f"the proof was made {apart} s ago by this service's clock", "set the clocks, then send it again")
    try:
        return sshsig.verify(unverified_blob, NAMESPACE, claim.message())
    except (FormatError, BadSignature) as error:
        raise _bad(f"the proof does not hold: {error.what}", "sign exactly the request that is sent") from error


def _bad(what: str, hint: str) -> BadInput:
    return BadInput(what, hint, code="bad_proof")
