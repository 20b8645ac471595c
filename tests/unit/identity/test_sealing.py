import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitgate.core.errors import Unsafe
from jitgate.core.secret import Secret
from jitgate.identity.sealing import seal, unseal

KEY = Secret(bytes(range(32)))
SEALED = seal(KEY, "credential.totp_seed", "row1", Secret(b"the seed"), os.urandom)


def test_what_was_sealed_comes_back():
    assert unseal(KEY, "credential.totp_seed", "row1", SEALED).reveal() == b"the seed"
    assert b"the seed" not in SEALED


@pytest.mark.parametrize(
    ("key", "purpose", "row"),
    [
        (bytes(32), "credential.totp_seed", "row1"),
        (bytes(range(32)), "identity.refresh_token", "row1"),
        (bytes(range(32)), "credential.totp_seed", "row2"),
        (bytes(range(32)), "credential.totp_seedrow1", ""),
    ],
    ids=["key", "purpose", "row", "where purpose ends"],
)
def test_it_is_bound_to_key_purpose_and_row(key, purpose, row):
    with pytest.raises(Unsafe) as refused:
        unseal(Secret(key), purpose, row, SEALED)
    assert "seed'" not in refused.value.what


@given(st.data())
@settings(max_examples=50)
def test_no_byte_of_it_can_be_changed_or_left_out(data):
    at = data.draw(st.integers(0, len(SEALED) - 1))
    changed = bytearray(SEALED)
    changed[at] ^= data.draw(st.integers(1, 255))
    for altered in (bytes(changed), SEALED[:at], SEALED[at + 1 :]):
        with pytest.raises(Unsafe):
            unseal(KEY, "credential.totp_seed", "row1", altered)


def test_each_sealing_takes_a_nonce_of_its_own():
    asked = []

    def random(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    first, second = (seal(KEY, "p", "r", Secret(b"x"), random) for _ in range(2))
    assert first != second
    assert asked == [12, 12]


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size):
    with pytest.raises(Unsafe):
        seal(Secret(bytes(size)), "p", "r", Secret(b"x"), os.urandom)
