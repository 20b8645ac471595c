"""A provider's key set: what is for signatures is taken, each key for its algorithms only."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from tests.providers import jwk, rsa_key

from jitgate.core.errors import BadInput
from jitgate.identity.jwks import parse_key_set
from jitgate.identity.providers import ALGORITHMS


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


RSA = jwk(rsa_key(), "r")
P256 = jwk(ec.generate_private_key(ec.SECP256R1()), "e")
ED = jwk(ed25519.Ed25519PrivateKey.generate(), "d")


def test_each_key_is_for_its_own_algorithms():
    found = parse_key_set(key_set(RSA, P256, ED, RSA | {"kid": "p", "alg": "PS256"}))
    assert found["r"].algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert {name: found[name].algorithms for name in "edp"} == {"e": {"ES256"}, "d": {"EdDSA"}, "p": {"PS256"}}


def test_no_symmetric_algorithm_is_known():
    curves = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]
    others = [jwk(ec.generate_private_key(curve), curve.name) for curve in curves]
    found = parse_key_set(key_set(RSA, ED, *others)).values()
    assert frozenset[str]().union(*(each.algorithms for each in found)) == ALGORITHMS
    assert not {name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"}


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"},
        RSA | {"kid": "x", "use": "enc"},
        RSA | {"kid": "x", "alg": "HS256"},
        RSA | {"kid": "x", "alg": "RSA-OAEP"},
        RSA | {"kid": "x", "key_ops": ["encrypt"]},
        P256 | {"kid": "x", "alg": "ES512"},
        P256 | {"kid": "x", "crv": "secp256k1"},
        {name: value for name, value in RSA.items() if name != "kid"},
        RSA | {"kid": ""},
        RSA | {"kid": 7},
        "key",
    ],
)
def test_what_is_not_for_signatures_is_left_out(other: Any):
    assert list(parse_key_set(key_set(RSA, other))) == ["r"]
    with pytest.raises(BadInput):
        parse_key_set(key_set(other))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b"\xff",
        b"[" * 100_000,
        b'{"keys": 1, "keys": []}',
        key_set(RSA, RSA),  # two of one id: which one a token means nobody can say
        key_set(RSA | {"n": "AQAB"}),
        key_set(RSA | {"e": "!"}),
        key_set(P256 | {"x": P256["y"]}),  # not on the curve
        key_set(ED | {"x": "AAAA"}),
        key_set(jwk(rsa_key(2, 1024), "weak")),
        key_set(*(RSA | {"kid": str(number)} for number in range(101))),
    ],
)
def test_a_set_that_is_not_right_is_none(bad: bytes):
    with pytest.raises(BadInput):
        parse_key_set(bad)


def test_a_private_key_in_it_is_not_kept():
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key()))
    found = parse_key_set(key_set(private | {"kid": "r", "key_ops": ["verify"]}))["r"]
    assert not hasattr(found.key, "private_numbers")
