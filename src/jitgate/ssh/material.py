"""What is inside a public key blob, and whether it is sound. Behind `pubkey`, which is what others use.

Sources: RFC 4253 6.6 (RSA), RFC 5656 3.1 (ECDSA), RFC 8709 (Ed25519), OpenSSH PROTOCOL.u2f (sk).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from jitgate.core.text import shown
from jitgate.ssh.ed25519 import Ed25519Key
from jitgate.ssh.wire import FormatError, Reader, to_base64

FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
"""As `fingerprint_of` and `ssh-keygen -l` write it."""
MAX_KEY: Final = 4096  # bytes; an RSA key of 16384 bits takes 2,100
RSA_BITS: Final = range(3072, 16384 + 1)  # below: NIST SP 800-57's end of 112 bits; above: verifying costs us too much
RSA_EXPONENT_MAX: Final = 1 << 32  # a long exponent makes each verification slow and buys nothing
APPLICATION_MAX: Final = 255


class Algorithm(StrEnum):
    """The key types that are taken. DSA, Ed448 and certificates are not among them."""

    ED25519 = "ssh-ed25519"
    ECDSA_256 = "ecdsa-sha2-nistp256"
    ECDSA_384 = "ecdsa-sha2-nistp384"
    ECDSA_521 = "ecdsa-sha2-nistp521"
    RSA = "ssh-rsa"
    SK_ED25519 = "sk-ssh-ed25519@openssh.com"
    SK_ECDSA_256 = "sk-ecdsa-sha2-nistp256@openssh.com"

    @property
    def is_sk(self) -> bool:
        """Held by a security key, which signs over its own data (OpenSSH PROTOCOL.u2f)."""
        return self.startswith("sk-")


@dataclass(frozen=True, slots=True)
class Material:
    algorithm: Algorithm
    key: Ed25519Key | EllipticCurvePublicKey | RSAPublicKey
    application: str | None
    fingerprint: str


@lru_cache(maxsize=1024)  # the CA keys and the people at work; a bound on what strangers can make us keep
def material(blob: bytes) -> Material:
    """The sound key in `blob`; else `FormatError`. A pure function of the bytes, so its answers are kept."""
    if len(blob) > MAX_KEY:
        raise FormatError(f"a public key has {len(blob)} bytes, more than {MAX_KEY}")
    reader = Reader(blob)
    algorithm = known_algorithm(reader.text())
    key = _PARSERS[algorithm](reader)
    application = _application(reader) if algorithm.is_sk else None
    reader.end()
    return Material(algorithm, key, application, fingerprint_of(blob))


def fingerprint_of(blob: bytes) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + to_base64(sha256(blob).digest()).rstrip("=")


def known_algorithm(name: str) -> Algorithm:
    try:
        return Algorithm(name)
    except ValueError:
        pass
    if "-cert-v" in name:
        raise FormatError(f"a certificate where a plain key belongs: {shown(name)}", "give the key itself")
    raise FormatError(f"not a key type that is taken: {shown(name)}", f"use one of {', '.join(Algorithm)}")


def _application(reader: Reader) -> str:
    text = reader.text(APPLICATION_MAX)
    if not text.startswith("ssh:") or not (text.isascii() and text.isprintable()) or " " in text:
        raise FormatError(f"a security key's application is not taken: {shown(text)}", "it starts with ssh:")
    return text


def _rsa(reader: Reader) -> RSAPublicKey:
    exponent, modulus = reader.mpint(), reader.mpint()
    if modulus.bit_length() not in RSA_BITS:
        raise FormatError(f"an RSA key has {modulus.bit_length()} bits", "use 3072 to 16384, or ssh-keygen -t ed25519")
    if not (exponent % 2 and modulus % 2 and 3 <= exponent < RSA_EXPONENT_MAX):  # noqa: PLR2004  # the least exponent
        raise FormatError("an RSA key with an exponent or modulus that is not sound")
    return RSAPublicNumbers(exponent, modulus).public_key()


def _ecdsa(name: bytes, curve: EllipticCurve) -> Callable[[Reader], EllipticCurvePublicKey]:
    length = 1 + 2 * ((curve.key_size + 7) // 8)

    def parse(reader: Reader) -> EllipticCurvePublicKey:
        if reader.string() != name:
            raise FormatError("an ECDSA key names another curve than its type does")
        point = reader.string()
        if len(point) != length or point[0] != 4:  # noqa: PLR2004  # SEC 1, 2.3.3: uncompressed
            raise FormatError("an ECDSA key's point is not in uncompressed form")
        try:
            return EllipticCurvePublicKey.from_encoded_point(curve, point)
        except ValueError:
            raise FormatError("an ECDSA key's point is not on its curve") from None

    return parse


# RFC 8032 5.1: the field, and the curve's constant d
_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P
# y of the points whose order is 4 or 8: under such a key anybody can make signatures.
# Those of order 1 and 2 have x = 0, which the criterion below does not count as a square.
_Y8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER: Final = frozenset({0, _Y8, _P - _Y8})


def _ed25519(reader: Reader) -> Ed25519Key:
    """Libraries look at the point only when they verify, so the checks of RFC 8032 5.1.3 stand here."""
    data = reader.string()
    if len(data) != 32:  # noqa: PLR2004  # RFC 8032 5.1.5
        raise FormatError("an Ed25519 key does not have 32 bytes")
    y = int.from_bytes(data, "little") & ((1 << 255) - 1)
    # x² = (y²-1) / (dy²+1) has a root when numerator times denominator is a square (Euler's criterion)
    square = (y * y - 1) * (_D * y * y + 1) % _P
    if y >= _P or y in _SMALL_ORDER or pow(square, (_P - 1) // 2, _P) != 1:
        raise FormatError("an Ed25519 key is not a sound point of its curve")
    return Ed25519Key(data)


_PARSERS: Final[dict[Algorithm, Callable[[Reader], Ed25519Key | EllipticCurvePublicKey | RSAPublicKey]]] = {
    Algorithm.ED25519: _ed25519,
    Algorithm.ECDSA_256: _ecdsa(b"nistp256", SECP256R1()),
    Algorithm.ECDSA_384: _ecdsa(b"nistp384", SECP384R1()),
    Algorithm.ECDSA_521: _ecdsa(b"nistp521", SECP521R1()),
    Algorithm.RSA: _rsa,
    Algorithm.SK_ED25519: _ed25519,
    Algorithm.SK_ECDSA_256: _ecdsa(b"nistp256", SECP256R1()),
}
