"""What the tests of policy and grants start from."""

from jitgate.core.clock import SECOND, Micros
from jitgate.identity.model import Factor, Kind, VerifiedIdentity
from jitgate.policy.bundle import PolicyBundle, load_files
from jitgate.policy.decide import decide
from jitgate.policy.model import Ask, Deny, Facts, HostFacts, Permit

NOW: Micros = 1_800_000_000 * SECOND  # Friday 2027-01-15 08:00 UTC
ALICE = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
GRANT = "01BX5ZZKBKACTAV9WEVGEMMVRZ"

WEB = """
role: web
effect: allow
who: {groups: [ops]}
what: {hosts: [web1]}
as: [ubuntu]
"""


def policy(*texts: str) -> PolicyBundle:
    return load_files({"roles.yaml": "---\n".join(texts).encode()})


def person(
    *groups: str, factors: tuple[Factor, ...] = (Factor.PASSWORD, Factor.TOTP), age: int = 60
) -> VerifiedIdentity:
    shown = tuple((factor, NOW - age * SECOND) for factor in factors)
    return VerifiedIdentity(ALICE, "alice", Kind.PERSON, "local", ALICE, groups, admin=False, factors=shown)


def host(name: str = "web1", *logins: str, **labels: str) -> HostFacts:
    return HostFacts(name, "default", labels or {"env": "prod"}, logins or ("ubuntu", "root"))


def facts(at: HostFacts | None = None, source: str = "192.0.2.7", now: Micros = NOW) -> Facts:
    return Facts(at or host(), now, source)


def permitted(bundle: PolicyBundle, who: VerifiedIdentity, ask: Ask, known: Facts | None = None) -> Permit:
    decision = decide(who, ask, known or facts(), bundle)
    assert isinstance(decision, Permit), decision
    return decision


def refused(bundle: PolicyBundle, who: VerifiedIdentity, ask: Ask, known: Facts | None = None) -> Deny:
    decision = decide(who, ask, known or facts(), bundle)
    assert isinstance(decision, Deny), decision
    return decision
