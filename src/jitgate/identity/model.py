"""The types that say who somebody is. Their constructors refuse what a row or a caller must never hold."""

from dataclasses import dataclass, field
from enum import StrEnum

from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.ids import is_id
from jitgate.core.text import check_name, shown
from jitgate.ssh.pubkey import PublicKey

LOCAL_ISSUER = "local"
"""The issuer of persons whom this service signs in itself; their subject is their person id."""

COMMENT_MAX = 100  # characters of a key's comment: "alice@laptop" and a little more


class Kind(StrEnum):
    PERSON = "person"
    ROBOT = "robot"
    BREAKGLASS = "breakglass"


class Factor(StrEnum):
    PASSWORD = "password"  # noqa: S105  # the word, not a password
    TOTP = "totp"
    OIDC = "oidc"  # whatever an identity provider asked for
    VAULT = "vault"  # a token or secret id of the Vault surface: good for that and for nothing else


Factors = tuple[tuple[Factor, Micros], ...]
"""What was shown and when, each factor once."""


@dataclass(frozen=True, slots=True)
class Person:
    """A human as an administrator made them known. `name` is unique among persons and is what they type."""

    id: str
    name: str
    groups: tuple[str, ...]
    admin: bool
    disabled_at: Micros | None
    created_at: Micros
    left: frozenset[str] = frozenset()
    """Realms in which they have nothing any more."""

    def __post_init__(self) -> None:
        _check_id("person", self.id)
        check_name("person", self.name)
        _check_groups(self.groups)


@dataclass(frozen=True, slots=True)
class VerifiedIdentity:
    """Somebody whose evidence was checked. Made in this room only (`sign_in.identify`, `sign_in.resume`)."""

    person_id: str
    name: str
    kind: Kind
    issuer: str
    subject: str
    groups: tuple[str, ...]
    admin: bool
    factors: Factors
    unknown: str = ""
    """Why the groups are not known, in words: nothing is decided on such an identity."""
    left: frozenset[str] = frozenset()
    """Realms in which nothing is given to them."""
    token_ends_at: Micros | None = None
    """Until when an identity provider's token says that it is they; for a password the sign-in's end; None if nothing
    says it."""

    def __post_init__(self) -> None:
        _check_id("person", self.person_id)
        check_name("person", self.name)
        _check_groups(self.groups)
        _check_factors(self.factors)
        if not self.issuer or not self.subject:
            raise BadInput("an identity without issuer or subject", "name both")

    def age(self, now: Micros) -> Micros:
        """Time since the oldest factor was shown."""
        return now - min(at for _, at in self.factors)


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A public key whose holder is this person, until removed. Only certificates for such keys are issued."""

    id: str
    person_id: str
    key: PublicKey
    comment: str
    added_at: Micros
    removed_at: Micros | None = None

    def __post_init__(self) -> None:
        _check_id("key", self.id)
        _check_id("person", self.person_id)
        check_comment(self.comment)


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in: the row that a session token leads to. Holds only the token's SHA-256.

    `provider`, `subject`, `groups`, `directory_name`: what an identity provider said; empty for a password. Where
    `directory_name` is set, the groups are the directory's, and asked for whenever something is decided.
    `token_ends_at`: the end of the provider's token, which may be before or after the sign-in's.
    """

    id: str
    person_id: str
    token_hash: bytes = field(repr=False)
    factors: Factors
    created_at: Micros
    expires_at: Micros
    ended_at: Micros | None = None
    provider: str = ""
    issuer: str = LOCAL_ISSUER
    subject: str = ""
    groups: tuple[str, ...] = ()
    directory_name: str = ""
    token_ends_at: Micros | None = None

    def __post_init__(self) -> None:
        _check_id("sign-in", self.id)
        _check_id("person", self.person_id)
        _check_groups(self.groups)
        if bool(self.provider) != (self.issuer != LOCAL_ISSUER) or bool(self.provider) != bool(self.subject):
            raise BadInput("a sign-in of a provider without issuer or subject", "name all three, or none")
        _check_factors(self.factors)
        if len(self.token_hash) != 32:  # noqa: PLR2004  # SHA-256
            raise BadInput("a token hash that is not 32 bytes", "store tokens.token_hash(token)")
        if self.expires_at <= self.created_at:
            raise BadInput("a sign-in that ends before it begins", "give it a lifetime")


@dataclass(frozen=True, slots=True)
class LinkedIdentity:
    """Who a person is elsewhere. (issuer, subject) is one person's; `LOCAL_ISSUER` is that of their password."""

    id: str
    person_id: str
    issuer: str
    subject: str
    linked_at: Micros


@dataclass(frozen=True, slots=True)
class DeviceSignIn:
    """A sign-in by device flow (RFC 8628) that waits. `device_code` is sealed; `interval` is between two questions."""

    id: str
    provider: str
    key: PublicKey
    comment: str
    network: str
    device_code: bytes = field(repr=False)
    interval: Micros
    next_at: Micros
    expires_at: Micros


@dataclass(frozen=True, slots=True)
class Credential:
    """A local user's secrets as they are stored: the hash, and the seed sealed with a key outside the database."""

    person_id: str
    password_hash: str = field(repr=False)
    totp_sealed: bytes = field(repr=False)
    totp_last_step: int


def check_comment(text: str) -> str:
    """A key's comment if it is printable ASCII of at most `COMMENT_MAX` characters; else `BadInput`.

    ASCII, because it is shown beside other people's keys and look-alikes must not pass for them.
    """
    if len(text) > COMMENT_MAX or not text.isascii() or not text.isprintable():
        raise BadInput(f"not a key comment: {shown(text)}", f"printable ASCII, at most {COMMENT_MAX} characters")
    return text


def _check_id(kind: str, value: str) -> None:
    if not is_id(value):
        raise BadInput(f"not a {kind} id: {shown(value)}", "a ULID: 26 characters")


def _check_groups(groups: tuple[str, ...]) -> None:
    if len(set(groups)) != len(groups):
        raise BadInput("a group is named twice", "name each group once")
    for group in groups:
        check_name("group", group)


def _check_factors(factors: Factors) -> None:
    if not factors or len({factor for factor, _ in factors}) != len(factors):
        raise BadInput("no factor, or one named twice", "each factor once, at least one")
