"""Secrets that must be readable again (TOTP seeds), sealed with a key that is not in the database.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce: good for 2^32 values under one key, far above one per person.
A value is bound to its purpose and row, so that a row's value copied into another row does not open.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jitgate.core.errors import Unsafe
from jitgate.core.ids import Random
from jitgate.core.secret import Secret
from jitgate.ssh.wire import put_string

KEY_BYTES = 32
TOTP_SEED = "credential.totp_seed"
"""The purpose of a sealed TOTP seed; its row is the person's id."""

_VERSION = b"\x01"
_NONCE_BYTES = 12


def seal(key: Secret[bytes], purpose: str, row_id: str, plain: Secret[bytes], random: Random) -> bytes:
    """version byte, nonce, ciphertext with tag. `purpose` names table and column (`TOTP_SEED`)."""
    nonce = random(_NONCE_BYTES)
    return _VERSION + nonce + _cipher(key).encrypt(nonce, plain.reveal(), _bound_to(purpose, row_id))


def unseal(key: Secret[bytes], purpose: str, row_id: str, sealed: bytes) -> Secret[bytes]:
    """What was sealed with the same key for the same purpose and row; else `Unsafe`."""
    nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    if sealed[:1] == _VERSION and len(nonce) == _NONCE_BYTES:
        try:
            return Secret(_cipher(key).decrypt(nonce, body, _bound_to(purpose, row_id)))
        except InvalidTag:
            pass
    raise Unsafe(f"the sealed {purpose} of {row_id} does not open", "use the sealing key that this store was made with")


def _cipher(key: Secret[bytes]) -> AESGCM:
    if len(key.reveal()) != KEY_BYTES:
        raise Unsafe(f"a sealing key of {len(key.reveal())} bytes", f"it has {KEY_BYTES} random bytes")
    return AESGCM(key.reveal())


def _bound_to(purpose: str, row_id: str) -> bytes:
    return b"jitgate-seal-v1" + put_string(purpose) + put_string(row_id)  # lengths in it: no two pairs look alike
