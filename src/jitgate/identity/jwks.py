"""A provider's key set (RFC 7517): the keys that ID tokens may be signed by, each for its algorithms only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from jitgate.core.errors import BadInput

KEYS_MAX = 100
RSA_BITS_MIN = 2048

_FOR_KEY: Mapping[tuple[str, str], frozenset[str]] = {
    ("RSA", ""): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """`algorithms`: those that fit its type, or the one that the provider gave it."""

    key_id: str
    algorithms: frozenset[str]
    key: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey = field(repr=False)


KeySet = Mapping[str, VerificationKey]
"""By key id."""


def parse_key_set(unverified: bytes) -> KeySet:
    """The keys for signatures; others (for encryption, of types that are not taken) are left out.

    Raises `BadInput`: no key set, none of use, two keys of one id, a key that is weak or broken.
    """
    try:
        document = json.loads(unverified, object_pairs_hook=no_name_twice)
        listed = document["keys"]
    except (ValueError, RecursionError, TypeError, KeyError):
        listed = None
    if not isinstance(listed, list) or not 0 < len(listed) <= KEYS_MAX:
        raise BadInput("the provider's key set is none", f"a JSON object with 1 to {KEYS_MAX} keys")
    keys: dict[str, VerificationKey] = {}
    for each in listed:
        if isinstance(each, dict) and (key := _key(each)):
            if key.key_id in keys:
                raise BadInput("the provider's key set has two keys of one id")
            keys[key.key_id] = key
    if not keys:
        raise BadInput("the provider's key set has no key for signatures", "RSA, P-256, P-384, P-521 or Ed25519")
    return keys


def no_name_twice(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """For `json.loads`: two readers could take different ones of two equal names."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _key(jwk: dict[str, object]) -> VerificationKey | None:
    kind, curve = jwk.get("kty"), jwk.get("crv", "")
    fitting = _FOR_KEY.get((kind, curve)) if isinstance(kind, str) and isinstance(curve, str) else None
    key_id, algorithm, operations = jwk.get("kid"), jwk.get("alg"), jwk.get("key_ops", ["verify"])
    if (
        not fitting
        or not isinstance(key_id, str)
        or not key_id
        or jwk.get("use", "sig") != "sig"
        or (algorithm is not None and algorithm not in fitting)
        or not isinstance(operations, list)
        or "verify" not in operations
    ):
        return None
    public = {name: value for name, value in jwk.items() if name in ("kty", "crv", "n", "e", "x", "y")}
    try:
        key = jwt.PyJWK(public, algorithm=min(fitting)).key
    except (jwt.PyJWTError, ValueError, TypeError):
        raise BadInput("a key of the provider's key set is broken") from None
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        raise BadInput(f"a key of the provider's key set has fewer than {RSA_BITS_MIN} bits")
    return VerificationKey(key_id, frozenset({str(algorithm)}) if algorithm else fitting, key)
