"""The decision of a local sign-in: key proof, throttles, then password and one-time code in one answer.

The caller (`flow/`) does: `check_proof`; in one transaction load the throttles (under `throttle.account_subject`,
`address_subject`), `begin`, store the throttles that it gives; `identify` (slow, so outside every transaction, few at
a time: 64 MiB each); in one transaction take the step (refuse if it was taken meanwhile), delete the account's
throttle, give back the address's (`throttle.forgiven` of the row as it is then), register the key, write sign-in and
event.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from jitgate.core.clock import HOUR, Micros
from jitgate.core.errors import BadInput, NotSignedIn, Unsafe
from jitgate.core.secret import Secret
from jitgate.identity import passwords, sealing, totp
from jitgate.identity.keys import RefusedKeys, parse_key_line
from jitgate.identity.model import LOCAL_ISSUER, Credential, Factor, Factors, Kind, Person, SignIn, VerifiedIdentity
from jitgate.identity.oidc import IdToken
from jitgate.identity.proof import ProofClaim, verify_proof
from jitgate.identity.throttle import ACCOUNT, ADDRESS, Throttle, Throttled, failed, wait
from jitgate.ssh.pubkey import PublicKey

LIFETIME: Micros = 8 * HOUR  # of a sign-in: one working day, then the factors are asked again


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a stranger sent. `claim` is the request as the transport received it, with the typed name as subject."""

    unverified_name: str
    unverified_password: Secret[str]
    unverified_code: Secret[str]
    unverified_key: str
    unverified_proof: bytes
    claim: ProofClaim


@dataclass(frozen=True, slots=True)
class Attempt:
    """Evidence whose proof holds, counted. `account` and `address` are to be stored before `identify` is called."""

    evidence: Evidence
    key: PublicKey
    comment: str
    account: Throttle
    address: Throttle


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store knows of the typed name; `None` twice if nobody has it. `now` is the time of the factors."""

    person: Person | None
    credential: Credential | None
    sealing_key: Secret[bytes]
    now: Micros


class RefusedWhy(StrEnum):
    """For the log only: the person is told none of it."""

    UNKNOWN_USER = "unknown_user"
    NO_CREDENTIAL = "no_credential"
    UNREADABLE_CREDENTIAL = "unreadable_credential"
    DISABLED = "disabled"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105  # the word, not a password
    WRONG_CODE = "wrong_code"
    REPLAYED_CODE = "replayed_code"


@dataclass(frozen=True, slots=True)
class SignInRefused:
    """`person_id` is empty if nobody has the name; the name is not kept: it may be a password typed too early."""

    why: RefusedWhy
    person_id: str

    def error(self) -> NotSignedIn:
        """The one wording for all of them (security invariant 11)."""
        return NotSignedIn(
            "the name, password or code is wrong", "check them; each code works once, so wait for the next"
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """`totp_step` must be taken in the store, later than every one before. `rehash`: store a new hash."""

    identity: VerifiedIdentity
    key: PublicKey
    comment: str
    totp_step: int
    rehash: bool


Verify = Callable[[str | None, Secret[str]], bool]
Match = Callable[[Secret[bytes] | None, Secret[str], Micros], int | None]


def check_proof(
    evidence: Evidence, *, origins: frozenset[str], refused_keys: RefusedKeys, now: Micros
) -> tuple[PublicKey, str]:
    """The key that proved the request, and its comment. Needs no knowledge of accounts, so that its errors are plain.

    Rules, in order: 1. the key is one we take; 2. the proof holds and is by that key, for the typed name. Raises
    `BadInput`, `Unsafe`.
    """
    key, comment = parse_key_line(evidence.unverified_key, refused_keys)
    if evidence.claim.subject != evidence.unverified_name:
        raise BadInput("the proof is for another name", "sign for the name that signs in", code="bad_proof")
    if verify_proof(evidence.unverified_proof, evidence.claim, origins=origins, now=now) != key:
        raise BadInput("the proof is by another key", "sign with the key that is sent", code="bad_proof")
    return key, comment


def begin(
    evidence: Evidence,
    key: PublicKey,
    comment: str,
    *,
    account: Throttle | None,
    address: Throttle | None,
    now: Micros,
) -> Attempt:
    """Count an attempt whose proof was checked: it is a failure until it succeeds.

    Raises `Throttled` if account or address has to wait first.
    """
    if pause := max(wait(account, now, ACCOUNT), wait(address, now, ADDRESS)):
        raise Throttled(pause)
    return Attempt(evidence, key, comment, failed(account, now, ACCOUNT), failed(address, now, ADDRESS))


def identify(
    attempt: Attempt,
    facts: Facts,
    *,
    verify: Verify = passwords.verify_password,
    match: Match = totp.matching_step,
) -> Accepted | SignInRefused:
    """Who it is. One password verification and one code comparison are made in every case, before anything is decided.

    Refused: nobody has the name; no or unreadable credential; disabled; wrong password; wrong code; a code whose step
    is not later than the last one used. `verify` and `match` are handed in by tests that count them.
    """
    person, credential = _of_that_name(attempt.evidence.unverified_name, facts)
    seed = _seed(credential, facts.sealing_key)
    try:
        stored = None if credential is None else credential.password_hash
        password_right, readable = verify(stored, attempt.evidence.unverified_password), seed is not None
    except Unsafe:
        password_right, readable = False, False
    step = match(seed, attempt.evidence.unverified_code, facts.now)

    if person is None:
        return SignInRefused(RefusedWhy.UNKNOWN_USER, "")
    if credential is None:
        return SignInRefused(RefusedWhy.NO_CREDENTIAL, person.id)
    if not readable:
        return SignInRefused(RefusedWhy.UNREADABLE_CREDENTIAL, person.id)
    if person.disabled_at is not None:
        return SignInRefused(RefusedWhy.DISABLED, person.id)
    if not password_right:
        return SignInRefused(RefusedWhy.WRONG_PASSWORD, person.id)
    if step is None:
        return SignInRefused(RefusedWhy.WRONG_CODE, person.id)
    if step <= credential.totp_last_step:
        return SignInRefused(RefusedWhy.REPLAYED_CODE, person.id)
    factors = ((Factor.PASSWORD, facts.now), (Factor.TOTP, facts.now))
    return Accepted(
        identity=_local(person, factors),
        key=attempt.key,
        comment=attempt.comment,
        totp_step=step,
        rehash=passwords.needs_rehash(credential.password_hash),
    )


def resume(sign_in: SignIn | None, person: Person | None, now: Micros) -> VerifiedIdentity:
    """Who a session token stands for: `sign_in` is the row of its hash, `person` that row's person. Else `NotSignedIn`.

    Refused: no such token; ended; expired; person gone or disabled. The person's own groups are those of now; those of
    a provider are added as it said them, those of a directory by `with_groups`.
    """
    if sign_in is None or person is None:
        raise _ended()
    check_in_force(sign_in, person, now)
    return stood_for(sign_in, person)


def check_in_force(sign_in: SignIn, person: Person, now: Micros) -> None:
    """`NotSignedIn` for what `resume` refuses."""
    if sign_in.ended_at is not None or now >= sign_in.expires_at:
        raise _ended()
    if person.id != sign_in.person_id or person.disabled_at is not None:
        raise _ended()


def _ended() -> NotSignedIn:
    return NotSignedIn("the sign-in has ended", "sign in again: jitctl login")


def stood_for(sign_in: SignIn, person: Person) -> VerifiedIdentity:
    """As `resume`, whether it is in force or not: for what was opened by it and still runs."""
    if not sign_in.provider:
        return replace(_local(person, sign_in.factors), token_ends_at=sign_in.expires_at)
    identity = _elsewhere(
        person,
        sign_in.issuer,
        sign_in.subject,
        sign_in.groups,
        sign_in.factors,
        unknown="the directory was not asked for the groups" if sign_in.directory_name else "",
    )
    return replace(identity, token_ends_at=sign_in.token_ends_at)


def by_provider(person: Person, token: IdToken) -> VerifiedIdentity:
    """Who signs in by a token that was checked. Raises nothing: that they are not disabled is asked before."""
    return _elsewhere(person, token.issuer, token.subject, token.groups, ((Factor.OIDC, token.at),))


def with_groups(identity: VerifiedIdentity, groups: tuple[str, ...]) -> VerifiedIdentity:
    """The identity with its groups of the directory, which was asked just now."""
    return replace(identity, groups=tuple(dict.fromkeys((*identity.groups, *groups))), unknown="")


def _of_that_name(unverified_name: str, facts: Facts) -> tuple[Person | None, Credential | None]:
    """The person and their credential, if they are: a store may compare names more loosely than we do."""
    person, credential = facts.person, facts.credential
    if person is None or person.name != unverified_name:
        return None, None
    return person, credential if credential is not None and credential.person_id == person.id else None


def _seed(credential: Credential | None, sealing_key: Secret[bytes]) -> Secret[bytes] | None:
    if credential is None:
        return None
    try:
        return sealing.unseal(sealing_key, sealing.TOTP_SEED, credential.person_id, credential.totp_sealed)
    except Unsafe:
        return None


def _local(person: Person, factors: Factors) -> VerifiedIdentity:
    return VerifiedIdentity(
        person_id=person.id,
        name=person.name,
        kind=Kind.PERSON,
        issuer=LOCAL_ISSUER,
        subject=person.id,
        groups=person.groups,
        admin=person.admin,
        factors=factors,
        left=person.left,
    )


def _elsewhere(
    person: Person, issuer: str, subject: str, groups: tuple[str, ...], factors: Factors, unknown: str = ""
) -> VerifiedIdentity:
    return VerifiedIdentity(
        person_id=person.id,
        name=person.name,
        kind=Kind.PERSON,
        issuer=issuer,
        subject=subject,
        groups=tuple(dict.fromkeys((*person.groups, *groups))),
        admin=person.admin,
        factors=factors,
        unknown=unknown,
        left=person.left,
    )
