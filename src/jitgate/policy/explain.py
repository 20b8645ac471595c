"""A decision in the words of the API: every role, every check, the smallest change that would allow it."""

from typing import TypedDict

from jitgate.core.outcome import Check
from jitgate.policy.model import Ask, Decision, Deny, Permit


class ExplainedCheck(TypedDict):
    name: str
    outcome: str
    why: str
    hint: str


class ExplainedRole(TypedDict):
    role: str
    effect: str
    matched: bool
    checks: list[ExplainedCheck]


class Explained(TypedDict):
    """`login` and `role`: "" where the answer is not about one. `principals` are the caller's to fill in."""

    host: str
    login: str
    decision: str
    code: str
    why: str
    hint: str
    role: str
    principals: list[str]
    policy_digest: str
    roles: list[ExplainedRole]


def explain(decision: Decision, ask: Ask, principals: tuple[str, ...] = ()) -> Explained:
    """The dictionary of `GET /v1/explain`. Decide with `complete=True` to have each role's checks to the end."""
    if isinstance(decision, Deny):
        answer, code, why, hint, role = "deny", decision.code, decision.why, decision.hint, decision.role
    elif isinstance(decision, Permit):
        answer, code, why, hint, role = "permit", "permitted", f"by role {decision.role.name}", "", decision.role.name
    else:
        answer, code, why, hint, role = "needs_approval", "needs_approval", "somebody has to agree", "", ""
    return {
        "host": ask.host,
        "login": decision.login,
        "decision": answer,
        "code": code,
        "why": why,
        "hint": hint,
        "role": role,
        "principals": list(principals) if answer == "permit" else [],
        "policy_digest": decision.policy_digest,
        "roles": [
            {
                "role": each.role,
                "effect": each.effect,
                "matched": each.matched,
                "checks": [explained_check(check) for check in each.checks],
            }
            for each in decision.examined
        ],
    }


def explained_check(check: Check) -> ExplainedCheck:
    return {"name": check.name, "outcome": check.outcome.value, "why": check.why, "hint": check.hint}
