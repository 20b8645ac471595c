from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput
from jitgate.core.secret import Secret
from jitgate.identity import totp
from jitgate.identity.totp import STEP, base32, code_at, matching_step, new_seed, uri

SEED = Secret(b"12345678901234567890")
NOW = 1_800_000_015 * SECOND
HERE = NOW // STEP


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_rfc_6238_appendix_b(seconds, code):
    assert code_at(SEED, seconds * SECOND // STEP).reveal() == code


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_one_step_off_is_within_the_window(off):
    assert matching_step(SEED, code_at(SEED, HERE + off), NOW) == HERE + off


@pytest.mark.parametrize("off", [-2, 2])
def test_two_steps_off_is_not(off):
    assert matching_step(SEED, code_at(SEED, HERE + off), NOW) is None


def test_a_code_of_another_seed_is_none():
    assert matching_step(Secret(bytes(20)), code_at(SEED, HERE), NOW) is None


def test_without_a_seed_nothing_matches_not_even_the_code_of_the_stand_in():
    assert matching_step(None, code_at(Secret(bytes(20)), HERE), NOW) is None


def test_a_code_that_two_steps_share_counts_for_the_later(monkeypatch):
    """Else it could be used a second time."""
    monkeypatch.setattr(totp, "code_at", lambda _seed, _step: Secret("123456"))
    assert matching_step(SEED, Secret("123456"), NOW) == HERE + 1


@given(st.text(max_size=8) | st.integers(0, 10**7).map(str))
@settings(max_examples=100)
def test_what_is_no_code_matches_nothing_and_crashes_nothing(text):
    right = {code_at(SEED, HERE + off).reveal() for off in (-1, 0, 1)}
    assert (matching_step(SEED, Secret(text), NOW) is None) == (text not in right)


def test_other_digits_do_not_pass_for_ascii():
    code = code_at(SEED, HERE).reveal()
    wide = "".join(chr(ord(digit) - ord("0") + ord("\uff10")) for digit in code)
    for text in (wide, code + "\n", " " + code, code[:3] + " " + code[3:]):
        assert matching_step(SEED, Secret(text), NOW) is None


@pytest.mark.parametrize("seed", [SEED, None], ids=["known", "unknown"])
@pytest.mark.parametrize("code", ["right", "000000", "no code", ""])
def test_the_same_three_codes_are_computed_in_every_case(monkeypatch, seed, code):
    computed = []

    def counting(seed: Secret[bytes], step: int) -> Secret[str]:
        computed.append(step)
        return code_at(seed, step)

    typed = code_at(SEED, HERE - 1) if code == "right" else Secret(code)
    monkeypatch.setattr(totp, "code_at", counting)
    matching_step(seed, typed, NOW)
    assert computed == [HERE - 1, HERE, HERE + 1]


def test_the_start_of_time_is_no_crash():
    assert matching_step(SEED, code_at(SEED, 1), 0) == 1


def test_a_seed_is_160_bits_of_the_randomness_handed_in():
    assert new_seed(lambda count: bytes(range(count))).reveal() == bytes(range(20))


def test_the_uri_says_all_that_an_app_needs():
    made = urlsplit(uri(SEED, "alice", "jitgate demo").reveal())
    assert (made.scheme, made.netloc, made.path) == ("otpauth", "totp", "/jitgate%20demo:alice")
    assert parse_qs(made.query) == {"secret": [base32(SEED).reveal()], "issuer": ["jitgate demo"]}


@pytest.mark.parametrize(("name", "issuer"), [("alice", "a:b"), ("alice", "x\n"), ("alice", ""), ("a b", "jitgate")])
def test_the_uri_takes_no_name_that_could_change_it(name, issuer):
    with pytest.raises(BadInput):
        uri(SEED, name, issuer)
