"""OpenSSH certificates (draft-miller-ssh-cert, once PROTOCOL.certkeys), narrower than the format allows."""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import InitVar, dataclass, field
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Final

from jitgate.core.errors import BadInput
from jitgate.core.text import shown
from jitgate.ssh.options import Options, check_options, parse_options, put_options
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key
from jitgate.ssh.wire import (
    MAX_STRING,
    FormatError,
    Reader,
    check_comment,
    from_base64,
    put_string,
    split_line,
    to_base64,
)

MAX_PRINCIPALS: Final = 256  # sshkey.h SSHKEY_CERT_MAX_PRINCIPALS
SERIALS: Final = range(1, 1 << 63)  # 0: a revocation list cannot name it; above: not a signed 64 bit number
NONCE_BYTES: Final = range(16, 64 + 1)
LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z; what lies beyond is "for ever" by another name

# An allow-list: no `, * ? !`, quote, space, `#`, control or non-ASCII; nothing that a principals file, a pattern or a
# shell reads as more than a letter
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+:-]{0,254}")
_KEY_ID: Final = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")

_SUFFIX: Final = "-cert-v01@openssh.com"
_KIND_OF: Final = {a: a.removesuffix("@openssh.com") + _SUFFIX for a in Algorithm}
_PUT_NAME: Final = {a: put_string(a) for a in Algorithm}
_PUT_KIND: Final = {a: put_string(kind) for a, kind in _KIND_OF.items()}
_PUT_EMPTY: Final = put_string(b"")
_NUMBERS: Final = Struct(">QI")  # serial, type
_TIMES: Final = Struct(">QQ")
_ALGORITHM_OF: Final = {kind.encode(): a for a, kind in _KIND_OF.items()}
# How many strings or numbers follow the type in a key of that type
_FIELDS: Final = {
    Algorithm.ED25519: 1,
    Algorithm.ECDSA_256: 2,
    Algorithm.ECDSA_384: 2,
    Algorithm.ECDSA_521: 2,
    Algorithm.RSA: 2,
    Algorithm.SK_ED25519: 2,
    Algorithm.SK_ECDSA_256: 3,
}


class CertType(IntEnum):
    USER = 1
    HOST = 2


_NOT_CANONICAL: Final = "a certificate is not in its canonical form"
_TYPE_OF: Final = {int(each): each for each in CertType}


class Untrusted(BadInput):
    """A certificate by a key that is not one of the authorities."""


@dataclass(frozen=True, slots=True)
class CertificateBody:
    """What a certificate says. Times are seconds since 1970, `valid_before` is the first second it is no longer valid.

    The constructor raises `FormatError` for what no certificate of ours or one that we take may say: no principal or
    one that is unsafe, serial 0, a key id that is not printable, no end, options that are unknown or out of order, the
    authority's own key as its subject.
    """

    type: CertType
    key: PublicKey
    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: Options
    extensions: Options
    ca: PublicKey

    def __post_init__(self) -> None:
        if self.serial not in SERIALS:
            raise FormatError("a certificate's serial is 0 or too large")
        if not _KEY_ID.fullmatch(self.key_id):
            raise FormatError(f"a key id is empty, too long or not printable ASCII: {shown(self.key_id)}")
        if not 0 <= self.valid_after < self.valid_before <= LAST_SECOND:
            raise FormatError("a certificate's validity is empty or has no end")
        if self.key.blob == self.ca.blob:
            raise FormatError("a certificate is for the key of its own authority")
        _check_principals(self.type, self.principals)
        check_options(self.critical_options, self.extensions, self.type is CertType.USER, self.key.algorithm.is_sk)


@lru_cache(maxsize=1024)  # a pure function of what certificates repeat; a refusal is not kept
def _check_principals(kind: CertType, principals: tuple[str, ...]) -> None:
    if not 1 <= len(principals) <= MAX_PRINCIPALS:
        raise FormatError(f"a certificate has {len(principals)} principals", f"1 to {MAX_PRINCIPALS}")
    if len(set(principals)) != len(principals):
        raise FormatError("a principal stands twice in a certificate")
    for name in principals:
        if not _PRINCIPAL.fullmatch(name):
            raise FormatError(f"not a principal that is taken: {shown(name)}", "letters, digits and . _ @ + : -")
        if kind is CertType.HOST and _is_loopback(name):
            raise FormatError(f"a host certificate for everybody's own machine: {shown(name)}")


def to_be_signed(body: CertificateBody, nonce: bytes) -> bytes:
    """The bytes that the authority signs. `nonce`: 16 to 64 random bytes, so that nobody can choose what is hashed."""
    if len(nonce) not in NONCE_BYTES:
        raise FormatError(f"a certificate's nonce has {len(nonce)} bytes", "16 to 64")
    algorithm = body.key.algorithm
    return b"".join(
        (
            _PUT_KIND[algorithm],
            put_string(nonce),
            body.key.blob[4 + len(algorithm) :],  # the key without its type, which stands in front already
            _NUMBERS.pack(body.serial, body.type),
            put_string(body.key_id),
            _put_principals(body.principals),
            _TIMES.pack(body.valid_after, body.valid_before),
            put_options(body.critical_options),
            put_options(body.extensions),
            _PUT_EMPTY,  # reserved
            put_string(body.ca.blob),
        )
    )


@lru_cache(maxsize=1024)
def _put_principals(principals: tuple[str, ...]) -> bytes:
    return put_string(b"".join(map(put_string, principals)))


def parse_to_be_signed(data: bytes) -> tuple[CertificateBody, bytes]:
    """Body and nonce, exactly as `to_be_signed` writes them; else `FormatError`."""
    return _exact(_read_to_be_signed(data), data)


def _read_to_be_signed(data: bytes) -> tuple[CertificateBody, bytes]:
    reader = _open(data)
    found = _read_body(reader)
    reader.end()
    return found


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate whose signature by the key in `body.ca` holds; that says nothing about trust (`check_trusted`).

    The constructor verifies and raises `BadSignature` or `FormatError`. `signature` is an SSH signature blob.
    `vouched`: it comes from whoever made it and has verified it there, so that only its form is checked.
    """

    body: CertificateBody
    nonce: bytes
    signature: bytes
    vouched: InitVar[bool] = False
    tbs: bytes = field(init=False, repr=False, compare=False)
    """What is signed: made of body and nonce, once."""

    def __post_init__(self, vouched: bool) -> None:
        object.__setattr__(self, "tbs", to_be_signed(self.body, self.nonce))
        if vouched:
            self.body.ca.check_form(self.signature)
        else:
            self.body.ca.verify(self.signature, self.tbs)

    @property
    def blob(self) -> bytes:
        return self.tbs + put_string(self.signature)

    def line(self, comment: str = "") -> str:
        """The line of a -cert.pub file, without newline."""
        kind = _KIND_OF[self.body.key.algorithm]
        return f"{kind} {to_base64(self.blob)} {check_comment(comment)}".rstrip(" ")

    @property
    def fingerprint(self) -> str:
        """Of the certified key, as sshd logs it."""
        return self.body.key.fingerprint


def join(tbs: bytes, signature: bytes, *, vouched: bool = False) -> Certificate:
    """The certificate of what was to be signed and the signature over it; raises as the parsers and `verify` do."""
    body, nonce = _read_to_be_signed(tbs)
    if not vouched:
        _exact((body, nonce), tbs)
        return Certificate(body, nonce, signature)
    made = Certificate(body, nonce, signature, vouched)
    if made.tbs != tbs:
        raise FormatError(_NOT_CANONICAL)
    return made


def parse_certificate(blob: bytes) -> Certificate:
    """The certificate whose wire form is exactly `blob`; else `FormatError` or `BadSignature`.

    Its signature holds by the key it names itself: whether that key is an authority is `check_trusted`'s question.
    """
    reader = _open(blob)
    found = _read_body(reader)
    signature = reader.string()
    reader.end()
    body, nonce = _exact(found, blob[: -4 - len(signature)])
    return Certificate(body, nonce, signature)


def parse_certificate_line(text: str) -> Certificate:
    """The certificate of one line of a -cert.pub file; raises as `parse_certificate`."""
    kind, blob, _ = split_line(text)
    certificate = parse_certificate(from_base64(blob, MAX_STRING))
    if kind != _KIND_OF[certificate.body.key.algorithm]:
        raise FormatError(f"a certificate line says {shown(kind)} but holds another type")
    return certificate


def check_trusted(certificate: Certificate, authorities: Collection[PublicKey]) -> None:
    """Nothing if the certificate's authority is byte for byte one of `authorities`; else `Untrusted`."""
    if certificate.body.ca not in authorities:
        raise Untrusted(f"a certificate by {certificate.body.ca.fingerprint}, which is no authority here")


def _open(data: bytes) -> Reader:
    if len(data) > MAX_STRING:
        raise FormatError(f"a certificate has {len(data)} bytes, more than {MAX_STRING}")
    return Reader(data)


def _read_body(reader: Reader) -> tuple[CertificateBody, bytes]:
    kind = reader.string()
    algorithm = _ALGORITHM_OF.get(kind)
    if algorithm is None:
        raise FormatError(f"not a certificate type that is taken: {shown(kind.decode('utf-8', 'replace'))}")
    nonce = reader.string()
    key = parse_public_key(_PUT_NAME[algorithm] + reader.strings(_FIELDS[algorithm]))
    serial, number = reader.numbers(_NUMBERS)
    if number not in _TYPE_OF:
        raise FormatError("a certificate is neither for a user nor for a host")
    key_id, principals = reader.text(), _read_principals(reader.string())
    valid_after, valid_before = reader.numbers(_TIMES)
    body = CertificateBody(
        type=_TYPE_OF[number],
        key=key,
        serial=serial,
        key_id=key_id,
        principals=principals,
        valid_after=valid_after,
        valid_before=valid_before,
        critical_options=parse_options(reader.string()),
        extensions=parse_options(reader.string()),
        ca=_read_authority(reader),
    )
    return body, nonce


@lru_cache(maxsize=1024)
def _read_principals(data: bytes) -> tuple[str, ...]:
    reader = Reader(data)
    found: list[str] = []
    while reader.more:
        if len(found) == MAX_PRINCIPALS:
            raise FormatError(f"more principals to read than {MAX_PRINCIPALS}")
        found.append(reader.text())
    return tuple(found)


def _read_authority(reader: Reader) -> PublicKey:
    if reader.string():
        raise FormatError("a certificate's reserved field is not empty")
    return parse_public_key(reader.string())


def _exact(found: tuple[CertificateBody, bytes], data: bytes) -> tuple[CertificateBody, bytes]:
    """One value, one encoding: what reads the same but is written otherwise is refused."""
    body, nonce = found
    if to_be_signed(body, nonce) != data:
        raise FormatError(_NOT_CANONICAL)
    return found


def _is_loopback(name: str) -> bool:
    lower = name.lower().rstrip(".")
    if lower == "localhost" or lower.startswith("localhost.") or lower.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(lower).is_loopback
    except ValueError:
        return False
