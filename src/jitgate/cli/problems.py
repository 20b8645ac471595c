"""An error answer of the service (RFC 9457) as one of our errors, with the service's own words and hint."""

from typing import NoReturn

from jitgate.cli.answers import Row
from jitgate.core.errors import (
    ApprovalPending,
    BadInput,
    Conflict,
    Denied,
    Error,
    NotFound,
    NotSignedIn,
    TooMany,
    Unreachable,
)
from jitgate.core.outcome import Check, Outcome

_CHECKS_MAX = 50
_BY_STATUS: dict[int, type[Error]] = {
    401: NotSignedIn,
    403: Denied,
    404: NotFound,
    409: Conflict,
    410: Conflict,
    413: TooMany,
    429: TooMany,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}
_BROKEN = 500


def raise_problem(status: int, problem: Row, url: str) -> NoReturn:
    code = _words(problem, "code")
    kind = _BY_STATUS.get(status, Error if status >= _BROKEN else BadInput)
    if code == ApprovalPending.default_code:
        kind = ApprovalPending
    what = _words(problem, "detail") or _words(problem, "title") or f"{url} answers with status {status}"
    hint = _words(problem, "hint")
    if not hint and kind is NotSignedIn:
        hint = "jitctl login"
    request = _words(problem, "request_id")
    if not hint and status >= _BROKEN and request:
        hint = f"ask the service's owner about request {request}"
    raise kind(what, hint, code=code, checks=as_checks(problem.get("checks")))


def as_checks(value: object) -> tuple[Check, ...]:
    """A list of checks as the API writes them; what is not one is left out."""
    found = value[:_CHECKS_MAX] if isinstance(value, list) else []
    return tuple(_check(row) for row in found if isinstance(row, dict))


def _check(row: Row) -> Check:
    outcome = _words(row, "outcome")
    known = Outcome(outcome) if outcome in set(Outcome) else Outcome.CRASHED
    return Check(_words(row, "name"), known, _words(row, "why"), _words(row, "hint"))


def _words(row: Row, name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
