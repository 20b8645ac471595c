"""Keys of every type for the tests, security keys among them: those sign here as the device would."""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.pubkey import Algorithm, PublicKey


@dataclass(frozen=True)
class Made:
    public: PublicKey
    sign: Callable[[bytes], bytes]


def string(data: bytes) -> bytes:
    """Written here again, so that the codec's own writer is not its judge."""
    return struct.pack(">I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return string(b"\x00" + data if data[:1] > b"\x7f" else data)


@dataclass(frozen=True)
class SecurityKey:
    """A FIDO authenticator in software (OpenSSH PROTOCOL.u2f)."""

    private: Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    application: str = "ssh:"

    @property
    def public(self) -> PublicKey:
        tail = string(self.application.encode())
        if isinstance(self.private, Ed25519PrivateKey):
            raw = self.private.public_key().public_bytes_raw()
            return PublicKey(Algorithm.SK_ED25519, string(b"sk-ssh-ed25519@openssh.com") + string(raw) + tail)
        point = self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        head = string(b"sk-ecdsa-sha2-nistp256@openssh.com") + string(b"nistp256")
        return PublicKey(Algorithm.SK_ECDSA_256, head + string(point) + tail)

    def sign(self, data: bytes, flags: int = 1, counter: int = 7, application: str | None = None) -> bytes:
        app = self.application if application is None else application
        state = struct.pack(">BI", flags, counter)
        signed = hashlib.sha256(app.encode()).digest() + state + hashlib.sha256(data).digest()
        if isinstance(self.private, Ed25519PrivateKey):
            value = self.private.sign(signed)
        else:
            r, s = decode_dss_signature(self.private.sign(signed, ec.ECDSA(SHA256())))
            value = number(r) + number(s)
        return string(self.public.algorithm.encode()) + string(value) + state

    def made(self) -> Made:
        return Made(self.public, self.sign)


@cache
def rsa_key(which: int) -> rsa.RSAPrivateKey:
    del which  # only tells the cache that another one is wanted
    return rsa.generate_private_key(65537, 3072)


_CURVES: dict[Algorithm, ec.EllipticCurve] = {
    Algorithm.ECDSA_256: ec.SECP256R1(),
    Algorithm.ECDSA_384: ec.SECP384R1(),
    Algorithm.ECDSA_521: ec.SECP521R1(),
}


def _seed(which: int) -> bytes:
    return hashlib.sha256(b"%d" % which).digest()


def _curve_key(curve: ec.EllipticCurve, which: int) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(hashlib.sha512(_seed(which)).digest(), "big")
    return ec.derive_private_key(number >> max(0, 513 - curve.key_size), curve)


@cache
def software_key(algorithm: Algorithm, which: int) -> SoftwareKey:
    """The same key for the same arguments, within one run; but for RSA, in all runs."""
    if algorithm is Algorithm.ED25519:
        return SoftwareKey(Ed25519PrivateKey.from_private_bytes(_seed(which)))
    if algorithm is Algorithm.RSA:
        return SoftwareKey(rsa_key(which))
    return SoftwareKey(_curve_key(_CURVES[algorithm], which))


@cache
def _made(algorithm: Algorithm, which: int) -> Made:
    if algorithm is Algorithm.SK_ED25519:
        return SecurityKey(Ed25519PrivateKey.from_private_bytes(_seed(which + 100))).made()
    if algorithm is Algorithm.SK_ECDSA_256:
        return SecurityKey(_curve_key(ec.SECP256R1(), which + 100)).made()
    key = software_key(algorithm, which)
    return Made(key.public, key.sign)


def made(algorithm: Algorithm, which: int = 0) -> Made:
    """A key of any type."""
    return _made(algorithm, which)


SOFTWARE = [a for a in Algorithm if not a.is_sk]
