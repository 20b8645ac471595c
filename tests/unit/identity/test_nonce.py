"""The nonce of a sign-in: the same on both sides, another one for everything that differs."""

import pytest

from jitgate.core.errors import BadInput
from jitgate.identity.nonce import new_salt, nonce_for, proof_subject

GIVEN = ("https://jit.example.com", "corp", "SHA256:" + "A" * 43, "0f" * 32)


def test_it_is_the_hash_of_its_fields():
    # printf 'jitgate-nonce-v1\n...\n' | openssl dgst -sha256 -binary | basenc --base64url
    assert nonce_for(*GIVEN) == "1auwQaZiYL8uMTm4_wm8UXkO8Duq0w9XsvDD3eDCWzY"


@pytest.mark.parametrize("at", range(4))
def test_every_field_counts(at: int):
    other = ("https://jit.example.com:8443", "corp2", "SHA256:" + "B" * 43, "0e" * 32)
    assert nonce_for(*(other[i] if i == at else GIVEN[i] for i in range(4))) != nonce_for(*GIVEN)


@pytest.mark.parametrize(
    ("at", "bad"),
    [
        (0, "https://jit.example.com/"),
        (0, "https://JIT.example.com"),
        (0, "ftp://jit.example.com"),
        (1, ""),
        (1, "Corp"),
        (1, "corp\n"),
        (1, "a" * 33),
        (2, "MD5:00"),
        (2, GIVEN[2] + "\n"),
        (3, "0f" * 31),
        (3, "0F" * 32),
        (3, "0f" * 32 + "\n"),
    ],
)
def test_a_field_that_could_blur_into_the_next_is_refused(at: int, bad: str):
    with pytest.raises(BadInput):
        nonce_for(*(bad if i == at else GIVEN[i] for i in range(4)))


def test_salts_are_random():
    assert new_salt(lambda size: b"\x01" * size) == "01" * 32


def test_the_proofs_subject():
    assert proof_subject("corp") == "oidc:corp"
