"""One role, all its questions, in their order: the cheap ones first, the condition last."""

from collections.abc import Callable, Iterable
from functools import partial

from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput
from jitgate.core.outcome import Check, Outcome, failed, passed
from jitgate.core.text import shown
from jitgate.policy import checks, condition
from jitgate.policy.checks import Question
from jitgate.policy.condition import Context
from jitgate.policy.model import RoleExamined
from jitgate.policy.rule import Rule

Known = Callable[[int], Context]
"""The facts for conditions about a grant of so many minutes."""

_NO_CONDITION = passed("condition", "none")
NOT_LOOKED_AT = failed("condition", "not looked at, the role does not match anyway")


def examine(rule: Rule, question: Question, login: str, variables: Known, minutes: int) -> RoleExamined:
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
        found.append(condition.evaluate(rule.condition, partial(variables, minutes)) if fits else NOT_LOOKED_AT)
    return RoleExamined(rule.role.name, rule.role.effect, matches(rule, found), tuple(found))


def matches(rule: Rule, found: Iterable[Check]) -> bool:
    """An allow role needs every check passed. A deny rule applies unless a check failed: a crash does not lift it."""
    if rule.denies:
        return all(check.outcome is not Outcome.FAILED for check in found)
    return all(check.passed for check in found)


def obligations(rule: Rule, question: Question) -> list[Check]:
    """What an allow role asks beside who, what and whence; none of it depends on the host."""
    return [
        checks.minutes(rule, question),
        checks.factors(rule, question),
        checks.approval(rule),
        checks.recording(rule),
        checks.schedule(rule),
        checks.reason(rule, question),
    ]


def stranger(rule: Rule) -> RoleExamined:
    """The short answer about a role that is for other people."""
    return RoleExamined(rule.role.name, rule.role.effect, matched=False, checks=(rule.stranger,))


def minutes_of(rule: Rule, question: Question) -> int:
    """The minutes, rounded up, that a grant under this role would have."""
    if question.renewing:
        return -(-question.renewing.seconds // 60)
    return question.ask.minutes or -(-rule.role.how_long.grant // 60)


def known(question: Question, login: str) -> Known:
    """The facts for conditions, made once, when the first condition wants them."""
    made: dict[int, Context] = {}

    def variables(minutes: int) -> Context:
        if minutes not in made:
            made[minutes] = _variables(question, login, minutes)
        return made[minutes]

    return variables


def _variables(question: Question, login: str, minutes: int) -> Context:
    identity, ask, facts = question.identity, question.ask, question.facts
    if question.address is None:
        raise BadInput(f"the address {shown(facts.source)} cannot be read")
    at = question.renewing.opened_at if question.renewing else facts.now
    return condition.variables(
        user=(identity.name, identity.groups, identity.issuer),
        auth=(tuple(factor.value for factor, _ in identity.factors), identity.age(at) // SECOND),
        host=(facts.host.name, facts.host.labels, facts.host.realm),
        request=(login, minutes, ask.reason.strip(), ask.ticket.strip()),
        source=str(question.address),
        now=facts.now,
    )
