"""Signed statements of the installation to its hosts: canonical JSON, and a raw Ed25519 signature over it.

What is signed begins with the statement's own domain, so that a list is never taken for a bundle. The signature is
checked before a byte of the payload is parsed; the key is one that the reader knows by another way.
"""

from dataclasses import dataclass

from jitgate.core.errors import BadInput
from jitgate.core.fields import Fields, canonical, read_json
from jitgate.core.text import shown
from jitgate.ssh.pubkey import Algorithm, PublicKey
from jitgate.ssh.wire import FormatError, from_base64, put_string, to_base64

SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Envelope:
    """`key`: the fingerprint of the key that is said to have signed. Nothing of it is verified."""

    payload: bytes
    key: str
    signature: bytes

    def json(self) -> dict[str, str]:
        return {"payload": to_base64(self.payload), "key": self.key, "signature": to_base64(self.signature)}


def signed_message(domain: bytes, payload: bytes) -> bytes:
    """What the key signs."""
    return domain + payload


def make_envelope(domain: bytes, payload: bytes, key: PublicKey, signature: bytes) -> Envelope:
    """`BadInput` (`signature`) when `key` did not make this signature."""
    envelope = Envelope(payload, key.fingerprint, signature)
    _verify(envelope, domain, key)
    return envelope


def take_envelope(unverified: object, payload_max: int) -> Envelope:
    """An envelope by its form; `BadInput` (`malformed`)."""
    fields = Fields(unverified, "an envelope")
    try:
        payload = from_base64(fields.text("payload", payload_max * 4 // 3 + 4), payload_max)
        signature = from_base64(fields.text("signature", 100), SIGNATURE_BYTES)
    except FormatError as error:
        raise BadInput(f"an envelope: {error.what}", code="malformed") from None
    envelope = Envelope(payload, fields.text("key", 100), signature)
    fields.end()
    return envelope


def open_envelope(unverified: Envelope, domain: bytes, key: PublicKey) -> object:
    """The payload's value, if `key` signed it; else `BadInput` (`wrong_key`, `signature`, `malformed`)."""
    _verify(unverified, domain, key)
    value = read_json(unverified.payload, "a signed payload")
    if canonical(value) != unverified.payload:
        raise BadInput("a signed payload is not in its canonical form", code="malformed")
    return value


def _verify(unverified: Envelope, domain: bytes, key: PublicKey) -> None:
    if key.algorithm is not Algorithm.ED25519:
        raise BadInput("a key that signs envelopes is ed25519", code="wrong_key")
    if unverified.key != key.fingerprint:
        raise BadInput(
            f"signed by the key {shown(unverified.key)}, not by {key.fingerprint}",
            "is this the installation that the host joined?",
            code="wrong_key",
        )
    signature = put_string(Algorithm.ED25519) + put_string(unverified.signature)
    try:
        key.verify(signature, signed_message(domain, unverified.payload))
    except BadInput:
        raise BadInput("the signature does not hold", "it was changed on its way", code="signature") from None
