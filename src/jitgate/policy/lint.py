"""What loads, but deserves a second look. Advice only: errors are found by loading."""

from collections.abc import Iterator
from dataclasses import dataclass

from jitgate.policy.bundle import PolicyBundle
from jitgate.policy.checks import BUILT_FACTORS
from jitgate.policy.role import Role


@dataclass(frozen=True, slots=True)
class Remark:
    role: str
    what: str
    hint: str


def lint(bundle: PolicyBundle) -> tuple[Remark, ...]:
    """Remarks in the order of the roles."""
    return tuple(
        Remark(rule.role.name, what, hint)
        for rule in bundle.rules.values()
        for what, hint in (_of_deny(rule.role) if rule.denies else _of_allow(rule.role))
    )


def _of_allow(role: Role) -> Iterator[tuple[str, str]]:
    every_host = "*" in role.what.hosts
    if every_host and "root" in role.logins:
        yield "gives root on every host", "name hosts or labels, or another login"
    if not role.who.groups and not role.who.users and role.who.condition == "true":
        yield "is for everybody", "name groups"
    if role.on_expiry == "keep" and role.reason == "optional":
        yield "keeps sessions past the grant, without a reason", "say reason: required"
    if "permit-agent-forwarding" in role.extensions:
        yield "lets a host use the person's agent", "use ssh -J instead of agent forwarding"
    for field, asked in (
        ("approval", role.approval is not None),
        ("recording", role.recording == "required"),
        ("schedule", role.schedule is not None),
        ("factors", not set(role.factors) <= BUILT_FACTORS),
    ):
        if asked:
            yield f"gives nothing: this version lacks {field}", "keep it for later, or leave the line out"


def _of_deny(role: Role) -> Iterator[tuple[str, str]]:
    anybody = not (role.who.groups or role.who.users or role.who.condition or role.who.sources)
    if anybody and not (role.what.hosts or role.what.labels) and not role.logins:
        yield "forbids everything to everybody in its realm", "say who, what or as"
