"""Sign-in of local users: one answer for everything that is wrong, the same work in every case, a code works once."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from jitgate.core.clock import MINUTE, SECOND
from jitgate.core.errors import BadInput, NotSignedIn, Unsafe
from jitgate.core.ids import new_id
from jitgate.core.secret import Secret
from jitgate.identity import sealing, totp
from jitgate.identity.model import Credential, Factor, Kind, Person, SignIn
from jitgate.identity.proof import ProofClaim, make_proof
from jitgate.identity.sign_in import (
    Accepted,
    Attempt,
    Evidence,
    Facts,
    RefusedWhy,
    SignInRefused,
    begin,
    check_proof,
    identify,
    resume,
)
from jitgate.identity.throttle import Throttle, Throttled
from jitgate.ssh.private import generate_ed25519

NOW = 1_800_000_015 * SECOND
HERE = NOW // totp.STEP
OURS = frozenset({"https://jit.example"})
KEY = generate_ed25519()
SEALING = Secret(bytes(range(32)))
SEED = Secret(b"12345678901234567890")
PASSWORD = "correct horse battery"
# any string that argon2 can read the parameters of; what it opens is the stand-in's business below
HASH = "$argon2id$v=19$m=65536,t=3,p=4$lyQMbc7vKir3nbb7L6L23A$3NsSwq1imkCJ/UG+gtb8SXHkVvOBfF8z1kS9Gul1/Ew"
ALICE, BOB = (
    Person(new_id(at * SECOND, bytes), name, ("ops",), False, None, 1) for at, name in enumerate(("alice", "bob"))
)


def credential_of(person: Person) -> Credential:
    sealed = sealing.seal(SEALING, sealing.TOTP_SEED, person.id, SEED, bytes)
    return Credential(person.id, HASH, sealed, totp_last_step=HERE - 1)


FACTS = Facts(ALICE, credential_of(ALICE), SEALING, NOW)


def evidence(name: str = "alice", password: str = PASSWORD, code: str | None = None) -> Evidence:
    claim = ProofClaim("https://jit.example", name, "POST", "/v1/sign-in", b"{the body}", NOW)
    return Evidence(
        unverified_name=name,
        unverified_password=Secret(password),
        unverified_code=totp.code_at(SEED, HERE) if code is None else Secret(code),
        unverified_key=KEY.public.line("alice@laptop"),
        unverified_proof=make_proof(claim, KEY.public, KEY.sign),
        claim=claim,
    )


def attempt(shown: Evidence, account: Throttle | None = None, address: Throttle | None = None) -> Attempt:
    key, comment = check_proof(shown, origins=OURS, refused_keys=frozenset(), now=NOW)
    return begin(shown, key, comment, account=account, address=address, now=NOW)


class Work:
    """Stands in for argon2 (one right password) and counts what is asked of it and of the code comparison."""

    def __init__(self) -> None:
        self.passwords: list[str | None] = []
        self.codes: list[bool] = []

    def verify(self, stored: str | None, password: Secret[str]) -> bool:
        self.passwords.append(stored)
        if stored == "unreadable":
            raise Unsafe("a stored password hash cannot be read")
        return stored is not None and password.reveal() == PASSWORD

    def match(self, seed: Secret[bytes] | None, code: Secret[str], now: int) -> int | None:
        self.codes.append(seed is not None)
        return totp.matching_step(seed, code, now)

    def identify(self, shown: Evidence, facts: Facts) -> Accepted | SignInRefused:
        return identify(attempt(shown), facts, verify=self.verify, match=self.match)


def test_the_right_name_password_and_code_are_accepted():
    accepted = Work().identify(evidence(), FACTS)
    assert isinstance(accepted, Accepted)
    identity = accepted.identity
    assert (identity.person_id, identity.name, identity.kind) == (ALICE.id, "alice", Kind.PERSON)
    assert (identity.issuer, identity.subject) == ("local", ALICE.id)
    assert (identity.groups, identity.admin) == (("ops",), False)
    assert identity.factors == ((Factor.PASSWORD, NOW), (Factor.TOTP, NOW))
    assert (accepted.key, accepted.comment) == (KEY.public, "alice@laptop")
    assert (accepted.totp_step, accepted.rehash) == (HERE, False)


def with_step(used: int) -> Facts:
    return replace(FACTS, credential=replace(credential_of(ALICE), totp_last_step=used))


def with_hash(stored: str) -> Facts:
    return replace(FACTS, credential=replace(credential_of(ALICE), password_hash=stored))


def with_seed(sealed: bytes) -> Facts:
    return replace(FACTS, credential=replace(credential_of(ALICE), totp_sealed=sealed))


Case = tuple[Evidence, Facts]
REFUSED: dict[str, tuple[RefusedWhy, Callable[[], Case]]] = {
    "unknown": (RefusedWhy.UNKNOWN_USER, lambda: (evidence("mallory"), Facts(None, None, SEALING, NOW))),
    "another row": (RefusedWhy.UNKNOWN_USER, lambda: (evidence(), Facts(BOB, credential_of(BOB), SEALING, NOW))),
    "no credential": (RefusedWhy.NO_CREDENTIAL, lambda: (evidence(), replace(FACTS, credential=None))),
    "another's credential": (
        RefusedWhy.NO_CREDENTIAL,
        lambda: (evidence(), replace(FACTS, credential=credential_of(BOB))),
    ),
    "disabled": (RefusedWhy.DISABLED, lambda: (evidence(), replace(FACTS, person=replace(ALICE, disabled_at=NOW)))),
    "wrong password": (RefusedWhy.WRONG_PASSWORD, lambda: (evidence(password="no"), FACTS)),
    "wrong code": (RefusedWhy.WRONG_CODE, lambda: (evidence(code="000000"), FACTS)),
    "wrong both": (RefusedWhy.WRONG_PASSWORD, lambda: (evidence(password="no", code="000000"), FACTS)),
    "no code": (RefusedWhy.WRONG_CODE, lambda: (evidence(code=""), FACTS)),
    "old code": (RefusedWhy.WRONG_CODE, lambda: (evidence(code=totp.code_at(SEED, HERE - 2).reveal()), FACTS)),
    "replayed": (RefusedWhy.REPLAYED_CODE, lambda: (evidence(), with_step(HERE))),
    "earlier than the last": (RefusedWhy.REPLAYED_CODE, lambda: (evidence(), with_step(HERE + 1))),
    "broken hash": (
        RefusedWhy.UNREADABLE_CREDENTIAL,
        lambda: (evidence(), with_hash("unreadable")),
    ),
    "broken seed": (RefusedWhy.UNREADABLE_CREDENTIAL, lambda: (evidence(), with_seed(b"?"))),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_log_learns_why(case):
    why, make = REFUSED[case]
    refused = Work().identify(*make())
    assert isinstance(refused, SignInRefused)
    assert refused.why is why
    assert refused.person_id == ("" if why is RefusedWhy.UNKNOWN_USER else ALICE.id)


def test_the_person_learns_the_same_in_every_case():
    told = set()
    for _, make in REFUSED.values():
        refused = Work().identify(*make())
        assert isinstance(refused, SignInRefused)
        error = refused.error()
        told.add((type(error), error.what, error.hint, error.code, error.checks, error.http_status))
    assert len(told) == 1


@pytest.mark.parametrize("case", [*REFUSED, "accepted"])
def test_one_password_and_one_code_are_checked_in_every_case(case):
    work = Work()
    work.identify(*(REFUSED[case][1]() if case in REFUSED else (evidence(), FACTS)))
    assert (len(work.passwords), len(work.codes)) == (1, 1)


def test_for_an_unknown_user_argon2_itself_runs_once(monkeypatch):
    """By the real verifier: nothing stands before it that a missing person could skip."""
    asked = []

    class Hasher:
        def verify(self, stored: str, password: bytes) -> bool:
            asked.append((stored, password))
            return True

    monkeypatch.setattr("jitgate.identity.passwords._HASHER", Hasher())
    refused = identify(attempt(evidence("mallory")), Facts(None, None, SEALING, NOW))
    assert isinstance(refused, SignInRefused)
    assert [password for _, password in asked] == [PASSWORD.encode()]


def test_a_code_works_once():
    work = Work()
    accepted = work.identify(evidence(), FACTS)
    assert isinstance(accepted, Accepted)
    again = work.identify(evidence(), with_step(accepted.totp_step))
    assert isinstance(again, SignInRefused)
    earlier = evidence(code=totp.code_at(SEED, HERE - 1).reveal())  # unused, but older than what was used
    assert isinstance(work.identify(earlier, with_step(accepted.totp_step)), SignInRefused)


def test_an_old_hash_is_to_be_replaced_once_the_password_was_right():
    old = "$argon2id$v=19$m=1024,t=1,p=1$lyQMbc7vKir3nbb7L6L23A$3NsSwq1imkCJ/UG+gtb8SXHkVvOBfF8z1kS9Gul1/Ew"
    accepted = Work().identify(evidence(), with_hash(old))
    assert isinstance(accepted, Accepted)
    assert accepted.rehash


# What comes before the password


def test_a_proof_for_another_name_is_refused():
    with pytest.raises(BadInput, match="another name"):
        attempt(replace(evidence(), unverified_name="bob"))


def test_a_proof_by_another_key_than_the_one_sent_is_refused():
    """Else a password and code could bind a key that its owner never used here."""
    with pytest.raises(BadInput, match="another key"):
        attempt(replace(evidence(), unverified_key=generate_ed25519().public.line()))


def test_a_body_that_was_changed_on_the_way_is_refused():
    shown = evidence()
    with pytest.raises(BadInput, match="does not hold"):
        attempt(replace(shown, claim=replace(shown.claim, body=b"{another}")))


def test_a_compromised_key_is_refused():
    refused = frozenset({KEY.public.fingerprint})
    with pytest.raises(Unsafe, match="compromised"):
        check_proof(evidence(), origins=OURS, refused_keys=refused, now=NOW)


@pytest.mark.parametrize("which", ["account", "address"])
def test_after_many_failures_nothing_is_looked_at_for_a_while(which):
    throttle = Throttle(500, NOW - SECOND)
    with pytest.raises(Throttled) as refused:
        attempt(evidence(), **{which: throttle})
    assert refused.value.retry_after == (15 if which == "account" else 5) * MINUTE - SECOND


def test_a_bad_proof_is_told_even_when_throttled():
    """Whether a name is throttled is told only to somebody whose request is sound."""
    with pytest.raises(BadInput, match="another name"):
        attempt(replace(evidence(), unverified_name="bob"), account=Throttle(500, NOW))


def test_an_attempt_counts_before_it_is_decided():
    """So guesses made at the same time are not free."""
    begun = attempt(evidence(), account=Throttle(2, NOW - MINUTE), address=None)
    assert (begun.account, begun.address) == (Throttle(3, NOW), Throttle(1, NOW))


def test_no_secret_is_in_any_repr():
    shown = evidence(password="hunter2-hunter2", code="135792")
    shown = replace(shown, claim=replace(shown.claim, body=b'{"password":"hunter2-hunter2"}'))
    begun = Attempt(shown, KEY.public, "", Throttle(1, NOW), Throttle(1, NOW))
    accepted = Work().identify(evidence(), FACTS)
    sign_in = SignIn(ALICE.id, ALICE.id, hashlib.sha256(b"token").digest(), ((Factor.TOTP, 1),), 1, 2)
    raw = (SEED.reveal(), SEALING.reveal(), sign_in.token_hash, credential_of(ALICE).totp_sealed)
    secrets = ("hunter2", "135792", HASH, *(repr(value)[2:-1] for value in raw))
    for thing in (shown, begun, FACTS, accepted, sign_in):
        text = repr(thing)
        assert not [secret for secret in secrets if secret in text]


# Later requests of the same sign-in

SIGN_IN = SignIn(BOB.id, ALICE.id, bytes(32), ((Factor.PASSWORD, NOW), (Factor.TOTP, NOW)), NOW, NOW + MINUTE)


def test_a_sign_in_stands_for_its_person_as_they_are_now():
    moved = replace(ALICE, groups=("dev",), admin=True)
    identity = resume(SIGN_IN, moved, NOW + 1)
    assert (identity.name, identity.groups, identity.admin) == ("alice", ("dev",), True)
    assert identity.factors == SIGN_IN.factors


@pytest.mark.parametrize(
    ("sign_in", "person", "now"),
    [
        (None, None, NOW),
        (None, ALICE, NOW),
        (SIGN_IN, None, NOW),
        (SIGN_IN, BOB, NOW),
        (SIGN_IN, replace(ALICE, disabled_at=1), NOW),
        (replace(SIGN_IN, ended_at=NOW), ALICE, NOW),
        (SIGN_IN, ALICE, NOW + MINUTE),
    ],
    ids=["no token", "no sign-in", "person gone", "another person", "disabled", "ended", "expired"],
)
def test_a_sign_in_that_does_not_hold(sign_in, person, now):
    with pytest.raises(NotSignedIn):
        resume(sign_in, person, now)
