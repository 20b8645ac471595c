"""Verifying by an Ed25519 key: by libsodium where it is installed, as beside a service, else by OpenSSL.

Both refuse what RFC 8032 refuses; libsodium takes less than half of the time, and a service does little else so often.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_BYTES: Final = 64

Verify = Callable[[bytes, bytes, bytes], None]
"""Key, signature of 64 bytes, data. Raises `InvalidSignature`."""


@dataclass(frozen=True, slots=True)
class Ed25519Key:
    """`raw`: the 32 bytes of a point that was checked (`material`)."""

    raw: bytes

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises `InvalidSignature`, also for one that is not 64 bytes long."""
        if len(signature) != SIGNATURE_BYTES:
            raise InvalidSignature
        verifier()(self.raw, signature, data)


@cache
def verifier() -> Verify:
    """The library is loaded when something is to be verified: `jitctl` starts without."""
    try:
        return sodium()
    except ImportError:
        return openssl


def sodium() -> Verify:
    from nacl.bindings import crypto_sign_open  # noqa: PLC0415  # where there is none, or nothing to verify
    from nacl.exceptions import BadSignatureError  # noqa: PLC0415

    def verify(key: bytes, signature: bytes, data: bytes) -> None:
        try:
            crypto_sign_open(signature + data, key)
        except BadSignatureError:
            raise InvalidSignature from None

    return verify


def openssl(key: bytes, signature: bytes, data: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
