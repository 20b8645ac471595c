import hashlib
import os

import pytest

from jitgate.core.errors import NotSignedIn
from jitgate.identity.tokens import new_token, parse_token, token_hash


def test_a_token_is_256_bits_of_the_randomness_handed_in():
    asked = []

    def random(count: int) -> bytes:
        asked.append(count)
        return bytes(range(count))

    assert new_token(random).reveal() == "jgs_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert asked == [32]


def test_every_token_made_is_a_token_read_and_hashed_as_sha256():
    for _ in range(50):
        token = new_token(os.urandom)
        assert parse_token(token.reveal()) == token
        assert token_hash(token) == hashlib.sha256(token.reveal().encode()).digest()


TOKEN = "jgs_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "jgs_",
        TOKEN[:-1],
        TOKEN + "A",
        TOKEN[4:],
        TOKEN + "\n",
        TOKEN[:-1] + "9",
        "JGS_" + TOKEN[4:],
        TOKEN[:-1] + "\u0663",
    ],
)
def test_what_is_no_token_is_not_repeated(bad):
    with pytest.raises(NotSignedIn) as refused:
        parse_token(bad)
    assert TOKEN[4:-1] not in f"{refused.value.what} {refused.value.hint}"
