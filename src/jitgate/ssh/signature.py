"""Verifying one SSH signature blob by one key. Behind `pubkey`, which is what others use.

Sources: RFC 8332 (RSA with SHA-2), RFC 5656 3.1.2 (ECDSA), RFC 8709 6 (Ed25519), OpenSSH PROTOCOL.u2f (sk).
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from jitgate.core.errors import BadInput
from jitgate.ssh.ed25519 import SIGNATURE_BYTES, Ed25519Key
from jitgate.ssh.material import Algorithm, Material
from jitgate.ssh.wire import FormatError, Reader, put_uint32

MAX_SIGNATURE: Final = 4096  # bytes; that of an RSA key of 16384 bits takes 2,072

RSA_HASHES: Final[dict[str, HashAlgorithm]] = {"rsa-sha2-256": SHA256(), "rsa-sha2-512": SHA512()}
ECDSA_HASHES: Final[dict[Algorithm, HashAlgorithm]] = {
    Algorithm.ECDSA_256: SHA256(),
    Algorithm.ECDSA_384: SHA384(),
    Algorithm.ECDSA_521: SHA512(),
    Algorithm.SK_ECDSA_256: SHA256(),
}
USER_PRESENT: Final = 0x01
USER_VERIFIED: Final = 0x04
_DATA_FOLLOWS: Final = 0xC0  # attested credential or extension data, which this form of signature has no place for


class BadSignature(BadInput):
    """A well-formed signature that was not made by this key over this data, or not in the way that was asked for."""


def verify(by: Material, signature: bytes, data: bytes, *, require_user_verification: bool) -> None:
    """Nothing if `signature` holds; else `BadSignature`, or `FormatError` for bytes that are no signature."""
    name, value, data = _taken_apart(by, signature, data, require_user_verification=require_user_verification)
    try:
        _verify(by, name, value, data)
    except InvalidSignature:
        raise BadSignature("the signature does not hold") from None


def check_form(by: Material, signature: bytes) -> None:
    """As `verify`, but for whether it holds: bytes that a signature by that key could be."""
    _, value, _ = _taken_apart(by, signature, b"", require_user_verification=False)
    if isinstance(by.key, Ed25519Key) and len(value) != SIGNATURE_BYTES:
        raise FormatError(f"an Ed25519 signature has {len(value)} bytes")


def _taken_apart(
    by: Material, signature: bytes, data: bytes, *, require_user_verification: bool
) -> tuple[str, bytes, bytes]:
    """Type and value of a signature blob, and what such a key signs for `data`."""
    if len(signature) > MAX_SIGNATURE:
        raise FormatError(f"a signature has {len(signature)} bytes, more than {MAX_SIGNATURE}")
    reader = Reader(signature)
    name = reader.text()
    if isinstance(by.key, RSAPublicKey):
        if name not in RSA_HASHES:
            raise BadSignature("an RSA signature is not by SHA-2", "use rsa-sha2-512 or rsa-sha2-256")
    elif name != by.algorithm:
        raise BadSignature("the signature is of another type than the key")
    value = reader.string()
    if by.application is not None:
        data = _checked_by_touch(reader, by.application, data, require_user_verification=require_user_verification)
    elif require_user_verification:
        raise BadSignature("only a security key can say that its user was verified")
    reader.end()
    return name, value, data


def _checked_by_touch(reader: Reader, application: str, data: bytes, *, require_user_verification: bool) -> bytes:
    """What a security key really signs: its application, flags and counter before the hash of the data."""
    flags, counter = reader.byte(), reader.uint32()
    if not flags & USER_PRESENT:
        raise BadSignature("the security key was not touched")
    if require_user_verification and not flags & USER_VERIFIED:
        raise BadSignature("the security key did not verify its user", "use its PIN or fingerprint")
    if flags & _DATA_FOLLOWS:
        raise FormatError("a security key's signature announces data that it does not have")
    fixed = hashlib.sha256(application.encode()).digest() + bytes([flags]) + put_uint32(counter)
    return fixed + hashlib.sha256(data).digest()


def _verify(by: Material, name: str, value: bytes, data: bytes) -> None:
    match by.key:
        case RSAPublicKey() as rsa:
            if len(value) != (rsa.key_size + 7) // 8:
                raise BadSignature("an RSA signature is not as long as its key")
            rsa.verify(value, data, PKCS1v15(), RSA_HASHES[name])
        case EllipticCurvePublicKey() as ecdsa:
            numbers = Reader(value)
            r, s = numbers.mpint(), numbers.mpint()
            numbers.end()
            ecdsa.verify(encode_dss_signature(r, s), data, ECDSA(ECDSA_HASHES[by.algorithm]))
        case Ed25519Key() as ed25519:
            ed25519.verify(value, data)
