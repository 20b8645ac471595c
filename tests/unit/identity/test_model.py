from dataclasses import replace

import pytest

from jitgate.core.errors import BadInput
from jitgate.core.ids import new_id
from jitgate.identity.model import Factor, Kind, Person, RegisteredKey, SignIn, VerifiedIdentity
from jitgate.ssh.private import generate_ed25519

ID = new_id(0, bytes)
PERSON = Person(ID, "alice", ("ops", "dev"), admin=False, disabled_at=None, created_at=1)
IDENTITY = VerifiedIdentity(
    ID, "alice", Kind.PERSON, "local", ID, ("ops",), admin=False, factors=((Factor.PASSWORD, 5), (Factor.TOTP, 3))
)
KEY = RegisteredKey(ID, ID, generate_ed25519().public, "laptop", 1)
SIGN_IN = SignIn(ID, ID, bytes(32), ((Factor.PASSWORD, 5),), created_at=5, expires_at=6)


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (PERSON, {"id": "1"}),
        (PERSON, {"name": "Alice"}),
        (PERSON, {"name": "alice\n"}),
        (PERSON, {"groups": ("ops", "ops")}),
        (PERSON, {"groups": ("a b",)}),
        (IDENTITY, {"person_id": ""}),
        (IDENTITY, {"name": "a b"}),
        (IDENTITY, {"groups": ("a,b",)}),
        (IDENTITY, {"factors": ()}),
        (IDENTITY, {"factors": ((Factor.TOTP, 1), (Factor.TOTP, 9))}),
        (IDENTITY, {"issuer": ""}),
        (IDENTITY, {"subject": ""}),
        (KEY, {"person_id": "x"}),
        (KEY, {"comment": "a\nb"}),
        (SIGN_IN, {"token_hash": b"jgs_..."}),
        (SIGN_IN, {"factors": ()}),
        (SIGN_IN, {"expires_at": 5}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else type(value).__name__,
)
def test_no_row_holds_what_it_must_not(row, change):
    with pytest.raises(BadInput):
        replace(row, **change)


def test_the_age_of_an_identity_is_that_of_its_oldest_factor():
    assert IDENTITY.age(10) == 7
