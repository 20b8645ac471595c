"""What may somebody reach? The answer of `decide` for every login of many hosts, without asking it for each.

Says the same as `decide` with that login and some reason (a property test compares them), in another order: what does
not depend on the host is answered once for each role, and only roles for the person are looked up for each host.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jitgate.core.clock import Micros
from jitgate.core.outcome import Outcome
from jitgate.identity.model import VerifiedIdentity
from jitgate.policy import checks
from jitgate.policy.bundle import PolicyBundle
from jitgate.policy.checks import Question
from jitgate.policy.examine import Known, evaluate, known, minutes_of, obligations
from jitgate.policy.model import Ask, Facts, HostFacts
from jitgate.policy.rule import Rule, make_index

_OF_A_HOST = frozenset({"host", "request"})  # the closed names whose value differs from host to host


@dataclass(frozen=True, slots=True)
class LoginAnswer:
    """`why`: what forbids it; if permitted, what is still to be given (a reason), or "". `role`: who says so."""

    login: str
    role: str
    permitted: bool
    why: str


@dataclass(frozen=True, slots=True)
class _Standing:
    """A role that speaks of the person, with all that can be said without a host.

    `problem`: why it permits nothing ("" if it may). `condition`: the outcome, if it is the same for every host.
    """

    rule: Rule
    minutes: int
    problem: str
    needs_reason: bool
    condition: Outcome | None


def reachable(
    identity: VerifiedIdentity, hosts: Iterable[HostFacts], bundle: PolicyBundle | None, *, now: Micros, source: str
) -> list[tuple[str, tuple[LoginAnswer, ...]]]:
    """Each host's name with its logins that some role gives the person, permitted or not; other hosts are left out."""
    if bundle is None or identity.unknown:
        return []
    nowhere = Facts(HostFacts("-", "-", {}, ()), now, source)
    question = checks.take_apart(identity, Ask("nowhere"), nowhere, None)
    standings = {
        rule.order: _standing(rule, question)
        for rule in bundle.rules.values()
        if not checks.is_stranger(rule, question)
    }
    index = make_index(standing.rule for standing in standings.values())
    found = []
    for host in hosts:
        if host.realm in identity.left:
            continue
        covering = [standings[rule.order] for rule in index.covering(host)]
        if answers := _answers(covering, host, question):
            found.append((host.name, answers))
    return found


def is_for(bundle: PolicyBundle | None, role: str, identity: VerifiedIdentity) -> bool:
    """Whether a role is for this person by its groups and users, as they are now; no more is looked at."""
    rule = bundle.rules.get(role) if bundle else None
    if rule is None or identity.unknown:
        return False
    return rule.everyone or identity.name in rule.users or not rule.groups.isdisjoint(identity.groups)


def _standing(rule: Rule, question: Question) -> _Standing:
    source = checks.source(rule, question)
    asked = [] if rule.denies else obligations(rule, question)
    failed = [check.why for check in (source, *asked) if not check.passed and check.name != "reason"]
    if rule.denies:
        failed = [] if source.outcome is not Outcome.FAILED else failed
    minutes = minutes_of(rule, question)
    same = rule.condition is None or not rule.condition.roots & _OF_A_HOST
    return _Standing(
        rule=rule,
        minutes=minutes,
        problem="; ".join(failed),
        needs_reason=any(check.name == "reason" and not check.passed for check in asked),
        condition=_outcome(rule, known(question, question.facts.host), "", minutes) if same else None,
    )


def _outcome(rule: Rule, values: Known, login: str, minutes: int) -> Outcome:
    if rule.condition is None:
        return Outcome.PASSED
    return evaluate(rule.condition, values, login, minutes).outcome


def _answers(covering: list[_Standing], host: HostFacts, question: Question) -> tuple[LoginAnswer, ...]:
    allows = [standing for standing in covering if not standing.rule.denies]
    if not allows:
        return ()
    denials = [standing for standing in covering if standing.rule.denies and not standing.problem]
    values = known(question, host)
    answers = []
    for login in host.logins:
        giving = [standing for standing in allows if login in standing.rule.logins]
        if giving:
            answers.append(_answer(giving, denials, login, values))
    return tuple(answers)


def _answer(giving: list[_Standing], denials: list[_Standing], login: str, values: Known) -> LoginAnswer:
    """The first role that permits without a reason, else the first that permits with one, else the first one's no."""
    with_reason = no = None
    for standing in giving:
        name = standing.rule.role.name
        why, denier = standing.problem, ""
        if (
            not why
            and (standing.condition or _outcome(standing.rule, values, login, standing.minutes)) is not Outcome.PASSED
        ):
            why = "its condition is not met"
        if not why and (denier := _denier(denials, login, standing.minutes, values)):
            why = f"the rule {denier} forbids it"
        if why:
            no = no or LoginAnswer(login, denier or name, permitted=False, why=why)
        elif standing.needs_reason:
            with_reason = with_reason or LoginAnswer(login, name, permitted=True, why="a reason is required")
        else:
            return LoginAnswer(login, name, permitted=True, why="")
    return with_reason or no or LoginAnswer(login, "", permitted=False, why="no role gives it")


def _denier(denials: list[_Standing], login: str, minutes: int, values: Known) -> str:
    """The name of the deny rule that applies, or ""."""
    for standing in denials:
        rule = standing.rule
        if rule.logins and login not in rule.logins:
            continue
        outcome = standing.condition or _outcome(rule, values, login, minutes)
        if outcome is not Outcome.FAILED:
            return rule.role.name
    return ""
