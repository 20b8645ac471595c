"""One role, all its questions, in their order: the cheap ones first, the condition last."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput
from jitgate.core.outcome import Check, Outcome, failed, passed
from jitgate.policy import checks
from jitgate.policy import condition as conditions
from jitgate.policy.checks import Question
from jitgate.policy.condition import Condition, Context, Value
from jitgate.policy.model import HostFacts, RoleExamined
from jitgate.policy.rule import Rule

Known = Callable[[Condition, str, int], Context]
"""The facts for a condition about a login and a grant of so many minutes."""

_NO_CONDITION = passed("condition", "none")
NOT_LOOKED_AT = failed("condition", "not looked at, the role does not match anyway")


def examine(rule: Rule, question: Question, login: str, values: Known, minutes: int) -> RoleExamined:
    """All checks of one role. `login`, `minutes`: those in question, as `minutes_of` has them."""
    facts = question.facts.host
    found = [
        checks.person(rule, question),
        checks.host(rule, facts),
        checks.source(rule, question),
        checks.login(rule, facts, login),
    ]
    fits = matches(rule, found)
    if not rule.denies:
        found += obligations(rule, question)
    if rule.condition is None:
        found.append(_NO_CONDITION)
    else:
        found.append(evaluate(rule.condition, values, login, minutes) if fits else NOT_LOOKED_AT)
    return RoleExamined(rule.role.name, rule.role.effect, matches(rule, found), tuple(found))


def matches(rule: Rule, found: Iterable[Check]) -> bool:
    """An allow role needs every check passed. A deny rule applies unless a check failed: a crash does not lift it."""
    if rule.denies:
        return all(check.outcome is not Outcome.FAILED for check in found)
    return all(check.passed for check in found)


def obligations(rule: Rule, question: Question) -> list[Check]:
    """What an allow role asks beside who, what and whence; none of it depends on the host."""
    return [
        *checks.token(rule, question),
        checks.minutes(rule, question),
        checks.factors(rule, question),
        checks.approval(rule),
        checks.recording(rule),
        checks.schedule(rule),
        checks.reason(rule, question),
    ]


def minutes_of(rule: Rule, question: Question) -> int:
    """The minutes, rounded up, that a grant under this role would have."""
    if question.renewing:
        return -(-question.renewing.seconds // 60)
    return question.ask.minutes or -(-checks.longest_s(rule, question) // 60)


def evaluate(condition: Condition, values: Known, login: str, minutes: int) -> Check:
    return conditions.evaluate(condition, lambda: values(condition, login, minutes))


def known(question: Question, host: HostFacts) -> Known:
    """The facts for conditions about a host; what one condition wanted is kept for the next that looks at the same."""
    made: dict[tuple[frozenset[str], str, int], Context] = {}

    def values(condition: Condition, login: str, minutes: int) -> Context:
        key = (condition.roots, login, minutes) if "request" in condition.roots else (condition.roots, "", 0)
        if key not in made:
            roots = condition.roots
            made[key] = conditions.context({root: _value(root, question, host, login, minutes) for root in roots})
        return made[key]

    return values


def _value(root: str, question: Question, host: HostFacts, login: str, minutes: int) -> Value:
    identity, ask, facts = question.identity, question.ask, question.facts
    match root:
        case "user":
            return {"name": identity.name, "groups": list(identity.groups), "issuer": identity.issuer}
        case "auth":
            age = identity.age(question.renewing.opened_at if question.renewing else facts.now)
            return {"factors": [factor.value for factor, _ in identity.factors], "age_s": age // SECOND}
        case "host":
            return {"name": host.name, "labels": dict(host.labels), "realm": host.realm}
        case "request":
            reason, ticket = ask.reason.strip(), ask.ticket.strip()
            return {"login": login, "minutes": minutes, "reason": reason, "ticket": ticket}
        case "source":
            if question.address is None:
                raise BadInput("the address cannot be read")
            return {"ip": str(question.address)}
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=facts.now)
