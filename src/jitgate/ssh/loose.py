"""Certificates read as sshd reads them: by any authority, with all that ours would never say. For looking at only.

`cert.parse_certificate` is what decides on trust. Nothing that is read here may be trusted with anything: texts are
bytes, and a signature that we cannot check is said to be unchecked.

Sources: draft-miller-ssh-cert; OpenSSH sshkey.c (`cert_parse`), auth-options.c (`cert_option_list`).
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA1

from jitgate.core.errors import BadInput
from jitgate.core.text import shown
from jitgate.ssh.material import fingerprint_of, material
from jitgate.ssh.signature import RSA_HASHES, BadSignature, verify
from jitgate.ssh.wire import FormatError, Reader, from_base64, put_string, split_line

FOREVER: Final = (1 << 64) - 1
MAX_CERTIFICATE: Final = 1 << 18
"""Bytes: what fits into one packet of SSH."""

_SUFFIX: Final = "-cert-v01@openssh.com"
_SHA1: Final = "ssh-rsa"
# Key types, and how many strings or numbers follow the type in each
_FIELDS: Final = {
    "ssh-ed25519": 1,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-rsa": 2,
    "ssh-dss": 4,
    "sk-ssh-ed25519": 2,
    "sk-ecdsa-sha2-nistp256": 3,
}
_DSA_BITS: Final = 1  # which field tells the size: its prime
_RSA_BITS: Final = 2


@dataclass(frozen=True, slots=True)
class LooseKey:
    """A public key by its type's name. `bits`: of RSA's modulus or DSA's prime, else 0."""

    kind: str
    blob: bytes
    bits: int = 0

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.blob)


@dataclass(frozen=True, slots=True)
class LooseCertificate:
    """What stands in a certificate, as it stands there. Times are seconds since 1970.

    `options`, `extensions`: name, and the data with its inner string not taken out. `ca`: its kind may be a
    certificate's. `signature_holds`: None when we cannot tell. `named`: the type before the base64.
    """

    named: str
    kind: str
    key: LooseKey
    nonce: bytes
    serial: int
    type: int
    key_id: bytes
    principals: tuple[bytes, ...]
    valid_after: int
    valid_before: int
    options: tuple[tuple[bytes, bytes], ...]
    extensions: tuple[tuple[bytes, bytes], ...]
    reserved: bytes
    ca: LooseKey
    signature_kind: str
    signature_holds: bool | None
    rest: bytes

    @property
    def is_host(self) -> bool:
        return self.type == 2  # noqa: PLR2004  # SSH_CERT_TYPE_HOST


def read_loosely(line: str) -> LooseCertificate:
    """The certificate of one line of a -cert.pub file; `FormatError` for what no sshd can read."""
    named, text, _ = split_line(line)
    blob = from_base64(text, MAX_CERTIFICATE)
    reader = Reader(blob)
    kind = _name(reader)
    plain = kind.removesuffix(_SUFFIX)
    if plain == kind or plain not in _FIELDS:
        raise FormatError(_not_one(kind), "give a -cert.pub file")
    nonce = reader.string()
    fields = [reader.string() for _ in range(_FIELDS[plain])]
    key_kind = f"{plain}@openssh.com" if plain.startswith("sk-") else plain
    key = LooseKey(key_kind, put_string(key_kind) + b"".join(map(put_string, fields)), _bits(plain, fields))
    serial, number, key_id = reader.uint64(), reader.uint32(), reader.string()
    principals = _strings(reader.string())
    valid_after, valid_before = reader.uint64(), reader.uint64()
    options, extensions = _pairs(reader.string()), _pairs(reader.string())
    reserved, ca = reader.string(), _key(reader.string())
    signed = blob[: len(blob) - len(reader.rest())]
    reader = Reader(blob[len(signed) :])
    signature = reader.string()
    return LooseCertificate(
        named=named,
        kind=kind,
        key=key,
        nonce=nonce,
        serial=serial,
        type=number,
        key_id=key_id,
        principals=principals,
        valid_after=valid_after,
        valid_before=valid_before,
        options=options,
        extensions=extensions,
        reserved=reserved,
        ca=ca,
        signature_kind=_name(Reader(signature)),
        signature_holds=_holds(ca, signature, signed),
        rest=reader.rest(),
    )


def inner(data: bytes) -> bytes | None:
    """The one string that an option's data holds; None for what is no such thing, b"" for a flag."""
    if not data:
        return b""
    reader = Reader(data)
    try:
        value = reader.string()
        reader.end()
    except FormatError:
        return None
    return value


def _not_one(kind: str) -> str:
    if "-cert-v00@" in kind:
        return f"a certificate in the form of 2010, which no sshd from 7.0 on reads: {shown(kind)}"
    if "-cert-v" in kind:
        return f"a certificate of a type that no sshd reads: {shown(kind)}"
    return f"no certificate, but {shown(kind)}"


def _name(reader: Reader) -> str:
    """A type's name. What is no ASCII is none."""
    try:
        return reader.string(256).decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("the name of a type is not ASCII") from None


def _strings(data: bytes) -> tuple[bytes, ...]:
    reader = Reader(data)
    found = []
    while reader.more:
        found.append(reader.string())
    return tuple(found)


def _pairs(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    found = _strings(data)
    if len(found) % 2:
        raise FormatError("an option has a name and no data")
    return tuple(zip(found[::2], found[1::2], strict=True))


def _bits(plain: str, fields: list[bytes]) -> int:
    where = {"ssh-rsa": _RSA_BITS, "ssh-dss": _DSA_BITS}.get(plain)
    return int.from_bytes(fields[where - 1], "big").bit_length() if where else 0


def _key(blob: bytes) -> LooseKey:
    """An authority's key. One whose type we do not know is that type, of no size."""
    reader = Reader(blob)
    kind = _name(reader)
    count = _FIELDS.get(kind.removesuffix("@openssh.com"))
    if count is None:
        return LooseKey(kind, blob)
    fields = [reader.string() for _ in range(count)]
    reader.end()
    return LooseKey(kind, blob, _bits(kind, fields))


def _holds(ca: LooseKey, signature: bytes, signed: bytes) -> bool | None:
    """Whether the authority made the signature; None for a key that we cannot compute with."""
    try:
        if ca.kind == "ssh-rsa":
            return _rsa_holds(ca, signature, signed)
        verify(material(ca.blob), signature, signed, require_user_verification=False)
    except (BadSignature, InvalidSignature):
        return False
    except (BadInput, ValueError, UnsupportedAlgorithm):  # a key that ours does not take: not ours to say
        return None
    return True


def _rsa_holds(ca: LooseKey, signature: bytes, signed: bytes) -> bool:
    """RSA of any size, and SHA-1 too: what old sshd takes is what is asked here."""
    key, reader = Reader(ca.blob), Reader(signature)
    key.string()
    exponent, modulus = (int.from_bytes(key.string(), "big") for _ in range(2))
    name, value = _name(reader), reader.string()
    reader.end()
    if name not in {*RSA_HASHES, _SHA1}:
        return False
    public = RSAPublicNumbers(exponent, modulus).public_key()
    size = (modulus.bit_length() + 7) // 8
    hashed = SHA1() if name == _SHA1 else RSA_HASHES[name]  # noqa: S303  # to tell what others signed with it
    public.verify(value.rjust(size, b"\0"), signed, PKCS1v15(), hashed)
    return True
