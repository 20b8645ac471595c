"""The rules of ID tokens without a service: what arbitrary bytes do, which algorithm goes with which key, times."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from hypothesis import given
from hypothesis import strategies as st
from tests.providers import CLIENT, ISSUER, FakeProvider, Private, jwk, rsa_key

from jitgate.core.clock import SECOND
from jitgate.identity.jwks import VerificationKey, parse_key_set
from jitgate.identity.oidc import TokenRefused, TokenRules, nameable_groups, read_header, verify_id_token
from jitgate.identity.providers import ALGORITHMS

NOW = 1_700_000_000 * SECOND
RULES = TokenRules(ISSUER, CLIENT, ALGORITHMS, "preferred_username", "groups")
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def made(key: Private | None = None, algorithm: str = "RS256") -> tuple[FakeProvider, VerificationKey]:
    fake = FakeProvider(clock=lambda: NOW, key=key or rsa_key(), algorithm=algorithm)
    keys = parse_key_set(json.dumps({"keys": [jwk(fake.key, "k1")]}).encode())
    return fake, keys["k1"]


def code_of(token: str, key: VerificationKey, *, nonce: str | None = "n", rules: TokenRules = RULES) -> str:
    try:
        verify_id_token(token, key, rules, nonce=nonce, now=NOW)
    except TokenRefused as error:
        return error.code
    return ""


@pytest.mark.parametrize(
    ("key", "algorithm"), [(None, "RS256"), (None, "RS512"), (None, "PS256"), (EC, "ES256"), (ED, "EdDSA")]
)
def test_each_algorithm_with_its_key(key: Private | None, algorithm: str):
    fake, known = made(key, algorithm)
    said = verify_id_token(fake.token(nonce="n"), known, RULES, nonce="n", now=NOW)
    assert (said.issuer, said.subject, said.name, said.groups) == (ISSUER, "u-1", "alice", ())


def test_a_key_is_not_used_for_another_algorithm():
    fake, _ = made()
    _, known = made(EC, "ES256")
    assert code_of(fake.token(nonce="n"), known) == "token_signature"


def test_a_key_of_one_algorithm_is_not_used_for_its_sister():
    fake, _ = made()
    known = parse_key_set(json.dumps({"keys": [jwk(fake.key, "k1", alg="PS256")]}).encode())["k1"]
    assert code_of(fake.token(nonce="n"), known) == "token_signature"


def test_the_key_has_to_be_the_one_that_the_header_names():
    fake, known = made()
    assert code_of(fake.token(nonce="n", header={"kid": "k2"}), known) == "token_key_unknown"


def test_the_settings_pin_algorithms_and_cannot_pin_a_bad_one():
    fake, known = made()
    narrow = TokenRules(ISSUER, CLIENT, frozenset({"ES256"}))
    foolish = TokenRules(ISSUER, CLIENT, frozenset({"none", "HS256"}))
    assert code_of(fake.token(nonce="n"), known, rules=narrow) == "token_algorithm"
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=").decode()
    token = f"{head}.{fake.token(nonce='n').split('.')[1]}."
    assert code_of(token, known, rules=foolish) == "token_algorithm"


@pytest.mark.parametrize("typ", ["JWT", "jwt", None])
def test_types_of_an_id_token(typ: str | None):
    fake, known = made()
    assert code_of(fake.token(nonce="n", header={"typ": typ}), known) == ""


@pytest.mark.parametrize("value", ["soon", True, -1, 0, 1e300, float("inf"), [], {}, 10**400])
def test_a_time_that_is_none(value: Any):
    fake, known = made()
    assert code_of(fake.token(nonce="n", exp=value), known) == "token_claims"


def test_a_time_with_a_fraction_is_one():
    fake, known = made()
    assert code_of(fake.token(nonce="n", exp=NOW / SECOND + 0.5), known) == ""


def test_factors_are_as_old_as_the_provider_says_and_never_from_the_future():
    fake, known = made()
    ages = {-3600: 3600, 30: 0}
    for given_s, age_s in ages.items():
        token = fake.token(nonce="n", auth_time=NOW // SECOND + given_s)
        assert verify_id_token(token, known, RULES, nonce="n", now=NOW).at == NOW - age_s * SECOND


def test_a_name_twice_in_the_claims_is_refused():
    """Two readers could take different ones: `sub` of one, `sub` of the other."""
    fake, known = made()
    head, _, _ = fake.token(nonce="n").split(".")
    body = base64.urlsafe_b64encode(b'{"sub": "u-1", "sub": "u-2"}').rstrip(b"=").decode()
    signature = rsa_key().sign(f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    token = f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert code_of(token, known) == "token_malformed"


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}"))
def test_any_text_is_refused_in_words(text: str):
    with pytest.raises(TokenRefused):
        read_header(text, RULES)


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "x5u"]), st.text() | st.integers() | st.none())
)
def test_any_header_is_refused_in_words(header: dict[str, Any]):
    part = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    try:
        found = read_header(f"{part}.e30.AA", RULES)
    except TokenRefused:
        return
    assert found.algorithm in ALGORITHMS


@given(
    st.dictionaries(
        st.sampled_from(["sub", "groups", "nonce", "iat", "nbf", "aud", "azp", "preferred_username", "auth_time"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists),
    )
)
def test_any_claims_are_read_or_refused_in_words(claims: dict[str, Any]):
    """Signed by the provider: even it cannot make the service crash."""
    fake, known = made()
    code_of(fake.token(**({"nonce": "n"} | claims)), known)


def test_groups_that_no_role_can_name_are_counted():
    assert nameable_groups(["b", "a", "a", "Domain Admins", "", "é"], "") == (("a", "b"), 3)
    assert nameable_groups(["a"], "corp:") == (("corp:a",), 0)
