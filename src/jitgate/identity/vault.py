"""What the Vault surface keeps: mounts, what is written under them, tokens and secret ids (hashes only).

Tokens begin `jgv_`, secret ids `jgi_`: random, shown once, looked up by their SHA-256.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from jitgate.core.clock import HOUR, Micros
from jitgate.core.errors import BadInput, NotSignedIn
from jitgate.core.ids import Random, is_id
from jitgate.core.secret import Secret
from jitgate.core.text import shown
from jitgate.identity.model import Factors, Kind, Person, VerifiedIdentity

TOKEN: Final = "jgv_"  # noqa: S105  # what every one begins with
SECRET_ID: Final = "jgi_"  # noqa: S105  # as above
TTL_DEFAULT: Final[Micros] = HOUR
TTL_MAX: Final[Micros] = 8 * HOUR  # as a sign-in: one working day, then the way in is asked again
ISSUER: Final = "vault:"  # then the mount's id; no provider's issuer is called so, for theirs are addresses
_SECRET: Final = re.compile(r"jg[vi]_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_PATH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,31}){0,3}")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,61}[a-z0-9])?")

MountKind = Literal["secret", "auth"]
RESERVED: Final = frozenset({"sys", "auth", "identity", "cubbyhole", "token"})


@dataclass(frozen=True, slots=True)
class Mount:
    """`path`: without a slash at either end. `realm`: of a secrets engine its own, of an auth method `default`."""

    id: str
    kind: MountKind
    path: str
    type: str
    realm: str
    description: str
    created_at: Micros


@dataclass(frozen=True, slots=True)
class Entry:
    """Something written under a mount, or under `sys` (`mount_id` empty). `body`: JSON, without secrets in clear."""

    mount_id: str
    kind: str
    name: str
    body: Mapping[str, object]
    changed_at: Micros
    version: int = 1


@dataclass(frozen=True, slots=True)
class VaultToken:
    """A token's row; `id` is its accessor. `until`: what no renewal passes. `uses_left` None: any number."""

    id: str
    person_id: str
    token_hash: bytes = field(repr=False)
    policies: tuple[str, ...]
    display_name: str
    path: str
    meta: Mapping[str, str]
    kind: Kind
    issuer: str
    subject: str
    factors: Factors
    mount_id: str
    parent_id: str
    created_at: Micros
    expires_at: Micros
    until: Micros
    ttl: Micros
    renewable: bool
    uses_left: int | None = None
    ended_at: Micros | None = None

    def __post_init__(self) -> None:
        if not is_id(self.id) or not is_id(self.person_id) or len(self.token_hash) != hashlib.sha256().digest_size:
            raise BadInput("a token's row without its ids or hash")
        if not self.created_at < self.expires_at <= self.until:
            raise BadInput("a token that does not end", "give it a time")


@dataclass(frozen=True, slots=True)
class SecretId:
    """An AppRole's secret id; `id` is its accessor."""

    id: str
    mount_id: str
    role: str
    secret_hash: bytes = field(repr=False)
    created_at: Micros
    expires_at: Micros | None
    uses_left: int | None
    ended_at: Micros | None = None


def new_secret(prefix: str, random: Random) -> Secret[str]:
    return Secret(prefix + base64.urlsafe_b64encode(random(32)).rstrip(b"=").decode("ascii"))


def secret_hash(secret: Secret[str]) -> bytes:
    """Of whatever was sent: only what has a secret's form can have a row."""
    return hashlib.sha256(secret.reveal().encode("utf-8", "replace")).digest()


def parse_secret(unverified: str, prefix: str) -> Secret[str]:
    """`NotSignedIn`, which does not repeat it, for anything that has another form."""
    if not unverified.startswith(prefix) or not _SECRET.fullmatch(unverified):
        raise NotSignedIn("permission denied", "log in again", code="vault_token")
    return Secret(unverified)


def check_mount_path(path: str) -> str:
    """A mount's path without the slash behind it; `BadInput` for one that is none, or is ours."""
    bare = path.removesuffix("/")
    if not _PATH.fullmatch(bare) or ".." in bare or bare.split("/")[0] in RESERVED:
        raise BadInput(f"not a path to mount at: {shown(path)}", "letters, digits and . _ -; up to four parts")
    return bare


def check_entry_name(kind: str, name: str) -> str:
    """A user's or role's name. Lower case only: no two spellings of one name."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise BadInput(f"not a {kind} name: {shown(name)}", "lower-case letters, digits and . _ @ + -, at most 63")
    return name


def in_force(token: VaultToken | None, person: Person | None, now: Micros, *, counted: bool = False) -> VaultToken:
    """`NotSignedIn` with one wording: no such token; ended, expired, used up; its person gone or disabled.

    `counted`: one of its uses was taken for this very request, maybe the last.
    """
    if (
        token is None
        or person is None
        or person.id != token.person_id
        or person.disabled_at is not None
        or token.ended_at is not None
        or now >= token.expires_at
        or (token.uses_left == 0 and not counted)
    ):
        raise NotSignedIn("permission denied", "log in again", code="vault_token")
    return token


def stands_for(token: VaultToken, person: Person) -> VerifiedIdentity:
    """Who holds a token that is in force. A Vault token is no sign-in: its groups are none."""
    return VerifiedIdentity(
        person_id=person.id,
        name=person.name,
        kind=token.kind,
        issuer=token.issuer,
        subject=token.subject,
        groups=(),
        admin=False,
        factors=token.factors,
    )
