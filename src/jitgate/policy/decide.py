"""May they? The decision.

Rules, in order:
0. Somebody whose groups are not known is refused: a deny rule could be for one of them. So is somebody who has left
   the host's realm, whatever its roles say.
1. The roles that cover the host are examined; with `ask.role`, that allow role and every deny rule. Other roles never
   speak. No role, no access.
2. A deny rule that applies wins, whatever else is allowed. One that cannot tell (a crash) applies. It is asked about
   the grant that would be given: its login and its minutes.
3. An allow role permits if every one of its checks passed: person, host, source, login, token, minutes, factors,
   approval, recording, schedule, reason, condition. A crashed check is not passed. What this version lacks is not
   passed.
4. The condition runs after the cheap checks, and only if host, person, source and login fit.
5. A permit rests on exactly one role: the one asked for, else the first that permits, by file name and by place in the
   file. Roles are never merged.
6. The login is the one asked for, or the only one permitted; with several the answer is no and names them.
7. Minutes asked are given exactly or refused with the longest; never raised, never lowered. Where a role says
   `within_token`, the longest is what is left of the token that the person signed in by, and without one there is none.
8. A renewal asks the same again with the grant's role, login and reason, its sign-in's age as it was at the opening,
   and the role's time counted from there.

Pure: no clock, no store; the same input gives the same answer.
"""

from collections.abc import Iterable

from jitgate.core.outcome import Check
from jitgate.identity.model import VerifiedIdentity
from jitgate.policy import checks
from jitgate.policy.bundle import PolicyBundle
from jitgate.policy.checks import Question
from jitgate.policy.examine import NOT_LOOKED_AT, examine, known, minutes_of
from jitgate.policy.model import Ask, Decision, Deny, Facts, Permit, Renewal, RoleExamined
from jitgate.policy.role import CLIENT
from jitgate.policy.rule import Rule

_CODES = {
    "person": "no_role",
    "host": "no_role",
    "source": "source_refused",
    "login": "login_refused",
    "condition": "condition_failed",
    "approval": "not_available",
    "recording": "not_available",
    "schedule": "not_available",
    "factors": "factor_needed",
    "token": "token_ended",
    "minutes": "too_long",
    "reason": "reason_needed",  # last: what a person can mend at once is asked for only if nothing else is in the way
}


_GRAVITY = {name: len(_CODES) - place for place, name in enumerate(_CODES)}


def decide(
    identity: VerifiedIdentity,
    ask: Ask,
    facts: Facts,
    bundle: PolicyBundle | None,
    *,
    renewing: Renewal | None = None,
    complete: bool = False,
) -> Decision:
    """The answer to `ask`, by the rules above. `bundle` None: no policy is in force. Raises nothing.

    `complete`: roles for other people are examined to the end too; for explaining, where time does not matter.
    """
    if identity.unknown:
        hint = "try again; if it stays, tell who runs this service"
        return Deny("groups_unknown", identity.unknown, hint, "", ask.login or "", (), "", ())
    if facts.host.realm in identity.left:
        why, hint = f"you have left the realm {facts.host.realm}", f"ask who runs {facts.host.realm}"
        return Deny("left_realm", why, hint, "", ask.login or "", (), "" if bundle is None else bundle.digest, ())
    if bundle is None:
        return Deny("no_policy", "no policy is in force", "apply a policy", "", ask.login or "", (), "", ())
    if ask.role is not None and (ask.role not in bundle.rules or bundle.rules[ask.role].denies):
        why = f"there is no allow role {ask.role}"
        return Deny("no_role", why, "name another role", ask.role, ask.login or "", (), bundle.digest, ())
    if facts.host.name != ask.host:
        why = f"the facts are about {facts.host.name}, not {ask.host}"
        return Deny("no_role", why, "ask again", "", ask.login or "", (), bundle.digest, ())
    question = checks.take_apart(identity, ask, facts, renewing)
    rules = bundle.index.covering(facts.host)
    if ask.role is not None:
        named = bundle.rules[ask.role]
        rules = [rule for rule in rules if rule.denies] + [named]
    answers = [
        _answer(question, login, rules, bundle.digest, complete=complete) for login in _logins(ask, facts, rules)
    ]
    permits = [answer for answer in answers if isinstance(answer, Permit)]
    if len(permits) > 1:
        logins = ", ".join(permit.login for permit in permits)
        why, hint = f"several logins are open on {ask.host}: {logins}", f"choose one of {logins}"
        first = permits[0]
        return Deny("login_needed", why, hint, first.role.name, "", first.checks, bundle.digest, first.examined)
    return permits[0] if permits else min(answers, key=_distance)


def _logins(ask: Ask, facts: Facts, rules: Iterable[Rule]) -> list[str]:
    if ask.login is not None:
        return [ask.login]
    given = frozenset[str]().union(*(rule.logins for rule in rules if not rule.denies))
    return [login for login in facts.host.logins if login in given] or [""]


def _answer(question: Question, login: str, rules: list[Rule], digest: str, *, complete: bool) -> Permit | Deny:
    values = known(question, question.facts.host)

    def look(rule: Rule, minutes: int) -> RoleExamined:
        if not complete and checks.is_stranger(rule, question):
            return rule.stranger
        return examine(rule, question, login, values, minutes)

    denying = [rule for rule in rules if rule.denies]
    known_denials: dict[int, tuple[RoleExamined, ...]] = {}

    def denials(minutes: int) -> tuple[RoleExamined, ...]:
        if minutes not in known_denials:
            known_denials[minutes] = tuple([look(rule, minutes) for rule in denying])
        return known_denials[minutes]

    allows = [rule for rule in rules if not rule.denies]
    found = tuple(look(rule, minutes_of(rule, question)) for rule in allows)
    permitting = [rule for rule, result in zip(allows, found, strict=True) if result.matched]
    for rule in permitting:
        forbidden = denials(minutes_of(rule, question))
        if not any(result.matched for result in forbidden):
            return _permit(rule, question, login, digest, forbidden + found)
    forbidden = denials(minutes_of(permitting[0], question) if permitting else question.ask.minutes or 0)
    examined = forbidden + found
    if denial := next((result for result in forbidden if result.matched), None):
        why, hint = f"the rule {denial.role} forbids it", "nothing that you can change: ask who runs the policy"
        return Deny("denied_by_rule", why, hint, denial.role, login, denial.checks, digest, examined)
    if not found:
        why = f"no role covers {question.ask.host}"
        return Deny("no_role", why, "ask who runs the policy for a role", "", login, (), digest, examined)
    return _nearest(found, login, digest, examined)


def _nearest(found: tuple[RoleExamined, ...], login: str, digest: str, examined: tuple[RoleExamined, ...]) -> Deny:
    nearest = min(found, key=lambda result: _missing(result.checks))
    lacking = [check for check in nearest.checks if not check.passed and check is not NOT_LOOKED_AT]
    by_weight = sorted(lacking, key=lambda check: -_GRAVITY[check.name])
    hints = [check.hint for check in by_weight if check.hint]
    return Deny(
        code=_CODES[by_weight[0].name],
        why="; ".join(check.why for check in by_weight),
        hint="; ".join(hints) or "ask who runs the policy",
        role=nearest.role,
        login=login,
        checks=nearest.checks,
        policy_digest=digest,
        examined=examined,
    )


def _missing(found: tuple[Check, ...]) -> tuple[bool, int, int]:
    """How far a role is from permitting: for somebody else, then by how many checks failed, then by the gravest."""
    lacking = [_GRAVITY[check.name] for check in found if not check.passed and check is not NOT_LOOKED_AT]
    return not found[0].passed, len(lacking), max(lacking, default=0)


def _distance(answer: Permit | Deny) -> tuple[bool, bool, int, int]:
    denied = isinstance(answer, Deny) and answer.code == "denied_by_rule"
    return denied, *(_missing(answer.checks) if answer.checks else (True, 0, 0))


def _only(question: Question) -> str:
    """The network of the asker's address alone; `checks.source` refused an address that cannot be read."""
    return f"{question.address}/{question.address.max_prefixlen}" if question.address else CLIENT


def _permit(rule: Rule, question: Question, login: str, digest: str, examined: tuple[RoleExamined, ...]) -> Permit:
    role, ask = rule.role, question.ask
    options = []
    if role.options.force_command is not None:
        options.append(("force-command", role.options.force_command))
    if addresses := role.options.source_address:
        if CLIENT in addresses:
            addresses = (_only(question),)
        options.append(("source-address", ",".join(addresses)))
    grant_s = checks.longest_s(rule, question) if ask.minutes is None else ask.minutes * 60
    if question.renewing:
        grant_s = min(grant_s, question.renewing.seconds)
    return Permit(
        identity=question.identity,
        ask=ask,
        facts=question.facts,
        role=role,
        login=login,
        grant_s=grant_s,
        certificate_s=min(role.certificate_s, grant_s),
        options=tuple(options),
        policy_digest=digest,
        examined=examined,
        renewing=question.renewing,
    )
