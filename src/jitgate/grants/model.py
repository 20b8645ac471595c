"""A grant: one person, one role, fixed targets, an end. Made in this room only (lifecycle.py)."""

from dataclasses import dataclass
from typing import Literal

from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.ids import is_id
from jitgate.core.text import check_name, check_reason, shown
from jitgate.identity.model import Factors, Kind

MOUNT_REALM = "vault-"  # how the realm of every Vault mount begins, and no other
ANY_HOST = "*"
"""A target's host in a grant of a Vault mount: every host whose owner has it trust that mount's CA."""
TARGETS_MAX = 256  # principals of a certificate (OpenSSH's own limit)

State = Literal["active", "expired", "ended"]
OnExpiry = Literal["end", "keep"]


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One login on one host; on `ANY_HOST` in a grant of a Vault mount, which opens nothing that is asked by host."""

    host: str
    login: str

    def __post_init__(self) -> None:
        if self.host != ANY_HOST:
            check_name("host", self.host)
        check_name("login", self.login)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a grant and how they had signed in when it was opened. Never refreshed."""

    person_id: str
    name: str
    kind: Kind
    issuer: str
    factors: Factors

    def __post_init__(self) -> None:
        check_name("person", self.name)
        if not is_id(self.person_id):
            raise BadInput(f"not a person id: {shown(self.person_id)}", "a ULID: 26 characters")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a certificate may be made from. Times in microseconds; `certificate_s`, `max_session_s` in seconds.

    `options` (critical options) and `metadata` are (name, value) pairs, sorted and unique; `extensions` names.
    `ends_at` never moves. `ended_at` is set when it ended before its time; `end_reason` says why.
    """

    id: str
    realm: str
    holder: Holder
    role: str
    policy_digest: str
    targets: tuple[Target, ...]
    reason: str
    ticket: str
    opened_at: Micros
    ends_at: Micros
    certificate_s: int
    options: tuple[tuple[str, str], ...]
    extensions: tuple[str, ...]
    metadata: tuple[tuple[str, str], ...]
    on_expiry: OnExpiry
    max_session_s: int | None
    ended_at: Micros | None = None
    end_reason: str = ""

    def __post_init__(self) -> None:
        """Refuses, with `BadInput`, what no permit could have given."""
        if not is_id(self.id):
            raise BadInput(f"not a grant id: {shown(self.id)}", "a ULID: 26 characters")
        check_name("realm", self.realm)
        check_name("role", self.role)
        check_reason(self.reason)
        check_reason(self.ticket)
        check_reason(self.end_reason)
        if not 1 <= len(self.targets) <= TARGETS_MAX or len(set(self.targets)) != len(self.targets):
            raise BadInput(f"a grant for {len(self.targets)} targets", f"1 to {TARGETS_MAX}, each once")
        self._check_hosts()
        if self.ends_at <= self.opened_at or (self.ended_at is not None and self.ended_at < self.opened_at):
            raise BadInput("a grant that ends before it begins", "end it after its opening")
        if self.certificate_s <= 0 or (self.max_session_s is not None and self.max_session_s <= 0):
            raise BadInput("a grant without a certificate's or session's time", "give it at least a second")
        if self.on_expiry not in {"end", "keep"}:
            raise BadInput(f"unknown on_expiry {shown(self.on_expiry)}", "end or keep")
        if self.on_expiry == "keep" and self.max_session_s is None:
            raise BadInput("a grant whose sessions never end", "give it a max_session")
        for pairs in (self.options, self.metadata):
            if list(pairs) != sorted(dict(pairs).items()):
                raise BadInput("options or metadata that are unsorted or double", "sort them, each name once")
        if list(self.extensions) != sorted(set(self.extensions)):
            raise BadInput("extensions that are unsorted or double", "sort them, each once")

    def _check_hosts(self) -> None:
        mount = self.realm.startswith(MOUNT_REALM)
        if any((target.host == ANY_HOST) != mount for target in self.targets):
            raise BadInput("a grant for every host, outside a mount; or one of a mount for a host", "one or the other")

    @property
    def person_id(self) -> str:
        return self.holder.person_id
