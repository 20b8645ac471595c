"""What is asked, what is known, and the three answers. `Permit` is made only in this room (decide.py)."""

from collections.abc import Mapping
from dataclasses import dataclass

from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput, Denied
from jitgate.core.outcome import Check
from jitgate.core.text import check_name, check_reason
from jitgate.identity.model import VerifiedIdentity
from jitgate.policy.role import Effect, Role

MINUTES_MAX = 60 * 24 * 366  # a year: beyond any role's grant, so a larger number is a slip and not a wish


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody asks for; it may only narrow what a role gives. `minutes`: of the grant; None: what the role says.

    Raises `BadInput` for a malformed name, an unprintable reason, or minutes out of range.
    """

    host: str
    login: str | None = None
    minutes: int | None = None
    reason: str = ""
    ticket: str = ""
    role: str | None = None

    def __post_init__(self) -> None:
        check_name("host", self.host)
        if self.login is not None:
            check_name("login", self.login)
        if self.role is not None:
            check_name("role", self.role)
        check_reason(self.reason)
        if self.ticket:
            check_name("ticket", self.ticket)
        if self.minutes is not None and not 1 <= self.minutes <= MINUTES_MAX:
            raise BadInput(f"{self.minutes} minutes", f"ask for 1 to {MINUTES_MAX} minutes, or leave it to the role")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A host as its owner made it known. `logins`: the accounts that take certificates."""

    name: str
    realm: str
    labels: Mapping[str, str]
    logins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the service itself knows at the moment of asking. `source`: the asker's IP address."""

    host: HostFacts
    now: Micros
    source: str


@dataclass(frozen=True, slots=True)
class Renewal:
    """A grant that is open already, for asking again whether it would still be given.

    `opened_at`: when; the age of the sign-in is counted to then. `seconds`: the whole length it was given.
    """

    opened_at: Micros
    seconds: int


@dataclass(frozen=True, slots=True)
class RoleExamined:
    """One role, with the answer to each of its questions.

    `matched`: an allow role would give the access; a deny role forbids it.
    """

    role: str
    effect: Effect
    matched: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Permit:
    """Yes, to this person, for this ask, under exactly one role. Everything a grant is made from stands in it.

    `options`: critical options as (name, value), sorted. `grant_s`, `certificate_s`: seconds, at most the role's.
    `renewing`: the grant that it is asked again for; such a permit opens no other.
    """

    identity: VerifiedIdentity
    ask: Ask
    facts: Facts
    role: Role
    login: str
    grant_s: int
    certificate_s: int
    options: tuple[tuple[str, str], ...]
    policy_digest: str
    examined: tuple[RoleExamined, ...]
    renewing: Renewal | None

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the role that the answer rests on."""
        return next(each.checks for each in self.examined if each.role == self.role.name)

    def within_token(self, ends_at: Micros) -> Micros:
        """When what would end then ends: no later than the token, if the role says so."""
        if not self.role.how_long.within_token:
            return ends_at
        return min(ends_at, self.identity.token_ends_at or self.facts.now)


@dataclass(frozen=True, slots=True)
class Deny:
    """No. `code` is stable (docs/policy.md); `why` and `hint` are for the person; `role` is the nearest or the denying.

    `checks`: those of that role, for the event. `login`: the one the answer is about, if it is about one.
    """

    code: str
    why: str
    hint: str
    role: str
    login: str
    checks: tuple[Check, ...]
    policy_digest: str
    examined: tuple[RoleExamined, ...]


@dataclass(frozen=True, slots=True)
class NeedsApproval:
    """Yes, once somebody entitled agrees. Not answered by this version: a role that asks for approval is refused."""

    role: Role
    login: str
    policy_digest: str
    examined: tuple[RoleExamined, ...]


Decision = Permit | Deny | NeedsApproval


def refusal(answer: Deny | NeedsApproval) -> Denied:
    """A decision's no, as the error that a person sees and that is logged."""
    if isinstance(answer, NeedsApproval):
        return Denied("somebody has to approve this, and this version cannot ask", code="not_available")
    return Denied(answer.why, answer.hint, code=answer.code, checks=answer.checks)
