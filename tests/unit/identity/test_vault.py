"""Names, secrets and rows of the Vault surface: what is none is refused, and said in one wording."""

from dataclasses import replace

import pytest

from jitgate.core.clock import HOUR
from jitgate.core.errors import BadInput, NotSignedIn
from jitgate.core.secret import Secret
from jitgate.identity.model import Factor, Kind, Person
from jitgate.identity.vault import (
    SECRET_ID,
    TOKEN,
    VaultToken,
    check_entry_name,
    check_mount_path,
    in_force,
    new_secret,
    parse_secret,
    secret_hash,
    stands_for,
)

NOW = 1_700_000_000_000_000
ID = "01HF7YAT00TEST00000000000A"
OTHER = "01HF7YAT00TEST00000000000B"
PERSON = Person(ID, "testuser@userpass", ("ops",), True, None, NOW)
ROW = VaultToken(
    id=OTHER,
    person_id=ID,
    token_hash=bytes(32),
    policies=("default",),
    display_name="userpass-testuser",
    path="auth/userpass/login/testuser",
    meta={},
    kind=Kind.PERSON,
    issuer="vault:x",
    subject="testuser",
    factors=((Factor.PASSWORD, NOW),),
    mount_id=ID,
    parent_id="",
    created_at=NOW,
    expires_at=NOW + HOUR,
    until=NOW + 8 * HOUR,
    ttl=HOUR,
    renewable=True,
)


NONE = ["", "/", "//", "/ssh", "ssh//x", "a/b/c/d/e", "..", "a/..", ".ssh", "a..b", "x y", "x%2f", "ssh\n", "*", "-x"]


@pytest.mark.parametrize("path", ["ssh", "ssh/", "ssh-client-signer", "team/ssh", "a/b/c/d", "SSH_1.x"])
def test_paths_to_mount_at(path: str):
    assert check_mount_path(path) == path.removesuffix("/")


@pytest.mark.parametrize(
    "path",
    [*NONE, *["sys", "sys/x", "auth/x", "token", "cubbyhole", "identity"]],
)
def test_paths_that_are_none_or_ours(path: str):
    with pytest.raises(BadInput):
        check_mount_path(path)


@pytest.mark.parametrize("name", ["", "Root", "a b", "a/b", "..", "a..b", "-a", "a-", "a\n", "a" * 64, "ä", "*"])
def test_names_that_are_none(name: str):
    with pytest.raises(BadInput):
        check_entry_name("user", name)


def test_a_secret_has_one_form_and_one_use():
    token = new_secret(TOKEN, bytes)
    assert parse_secret(token.reveal(), TOKEN) == token
    assert len(secret_hash(token)) == 32
    text = token.reveal()
    for wrong in (text[:-1], text + "A", text[:-1] + "B", " " + text, "root", "", "jgs_" + text[4:], text.upper()):
        with pytest.raises(NotSignedIn) as caught:
            parse_secret(wrong, TOKEN)
        assert wrong not in caught.value.what or not wrong
    with pytest.raises(NotSignedIn):
        parse_secret(text, SECRET_ID)
    assert secret_hash(Secret("\ud800"))  # whatever was sent


def test_a_token_in_force():
    assert in_force(ROW, PERSON, NOW) is ROW
    words = set()
    for row, person, now in (
        (None, PERSON, NOW),
        (ROW, None, NOW),
        (ROW, replace(PERSON, id=OTHER), NOW),
        (ROW, replace(PERSON, disabled_at=NOW), NOW),
        (replace(ROW, ended_at=NOW), PERSON, NOW),
        (replace(ROW, uses_left=0), PERSON, NOW),
        (ROW, PERSON, NOW + HOUR),
    ):
        with pytest.raises(NotSignedIn) as caught:
            in_force(row, person, now)
        words.add((caught.value.what, caught.value.hint, caught.value.code))
    assert len(words) == 1
    assert in_force(replace(ROW, uses_left=0), PERSON, NOW, counted=True).id == ROW.id  # the last one is its own


def test_a_token_is_no_sign_in():
    """Neither the person's groups nor their being an admin stand behind a certificate of a mount."""
    identity = stands_for(ROW, PERSON)
    assert (identity.groups, identity.admin, identity.issuer) == ((), False, "vault:x")


@pytest.mark.parametrize(
    "change", [{"id": "x"}, {"person_id": "x"}, {"token_hash": b"x"}, {"expires_at": NOW}, {"until": NOW + 1}]
)
def test_rows_that_no_login_made(change: dict[str, object]):
    with pytest.raises(BadInput):
        replace(ROW, **change)  # type: ignore[arg-type]  # fields by their names
