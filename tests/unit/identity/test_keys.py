import pytest

from jitgate.core.errors import BadInput, Conflict, TooMany, Unsafe
from jitgate.core.ids import new_id
from jitgate.identity.keys import KEYS_MAX, parse_key_line, parse_refused_keys, register
from jitgate.identity.model import RegisteredKey
from jitgate.ssh.private import generate_ed25519

ALICE, BOB, ROW = (new_id(millisecond * 1000, bytes) for millisecond in (1, 2, 3))
KEY = generate_ed25519().public
REGISTERED = RegisteredKey(ROW, ALICE, KEY, "", 5)


def registered(person_id=ALICE, keys=(), current=None) -> RegisteredKey:
    return register(KEY, "laptop", person_id=person_id, registered=keys, current=current, new_id=ROW, now=7)


def test_a_new_key_becomes_the_persons():
    assert registered() == RegisteredKey(ROW, ALICE, KEY, "laptop", 7)


def test_a_key_that_stands_already_is_not_registered_twice():
    assert registered(current=REGISTERED, keys=[REGISTERED] * KEYS_MAX) is REGISTERED


def test_a_key_is_never_two_peoples():
    with pytest.raises(Conflict):
        registered(BOB, current=REGISTERED)


def test_ten_keys_are_enough_and_removed_ones_do_not_count():
    full = [RegisteredKey(ROW, ALICE, generate_ed25519().public, "", 5) for _ in range(KEYS_MAX)]
    with pytest.raises(TooMany):
        registered(keys=full)
    removed = RegisteredKey(ROW, ALICE, KEY, "", 5, removed_at=6)
    assert registered(keys=[*full[1:], removed, removed]).key == KEY


def test_a_key_line_gives_key_and_comment():
    assert parse_key_line(KEY.line("alice@laptop"), frozenset()) == (KEY, "alice@laptop")


def test_a_compromised_key_is_refused():
    listed = parse_refused_keys(f"# leaked\n\n{KEY.fingerprint} found in a public image\r\n")
    assert listed == {KEY.fingerprint}
    with pytest.raises(Unsafe, match="compromised"):
        parse_key_line(KEY.line(), listed)


@pytest.mark.parametrize("comment", ["josé", "a\u202eb", "x" * 101])
def test_a_comment_that_could_mislead_is_refused(comment):
    with pytest.raises(BadInput):
        parse_key_line(KEY.line() + " " + comment, frozenset())


@pytest.mark.parametrize(
    "line",
    [
        KEY.fingerprint[:-1],
        KEY.fingerprint + "x",
        KEY.fingerprint + "=",
        KEY.fingerprint[:-1] + "B",  # a second spelling of the same bits
        KEY.fingerprint.lower(),
        "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48",
        KEY.line(),
        "256 " + KEY.fingerprint,
    ],
    ids=["too short", "too long", "padded", "another spelling", "small letters", "MD5", "a key", "with its size"],
)
def test_a_list_with_a_line_that_is_no_fingerprint_is_refused_whole(line):
    with pytest.raises(BadInput, match="line 2"):
        parse_refused_keys(f"{KEY.fingerprint}\n{line}\n")
