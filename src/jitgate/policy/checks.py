"""The questions that a role asks, one function each. Each answers with a `Check`; none raises.

They are logged, where text stays for ever: no words of a check name a person or an address.
For a deny rule "passed" means that the rule applies. There a crash counts as applying (decide.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from jitgate.core.clock import SECOND
from jitgate.core.outcome import Check, crashed, failed, passed
from jitgate.identity.model import Factor, VerifiedIdentity
from jitgate.policy.model import Ask, Facts, HostFacts, Renewal
from jitgate.policy.role import CLIENT
from jitgate.policy.rule import Rule, covers

BUILT_FACTORS = frozenset(factor.value for factor in Factor)
_NAMED = passed("person", "named by the role")
_EVERYONE = passed("person", "everyone")
_ANY_SOURCE = passed("source", "any address")
_MINUTES = passed("minutes", "within the role's time")
_FACTORS = passed("factors", "as signed in")
_TOKEN = passed("token", "still good")
_APPROVAL = passed("approval", "none asked for")
_RECORDING = passed("recording", "none asked for")
_SCHEDULE = passed("schedule", "at any time")
_NO_REASON_ASKED = passed("reason", "none asked for")
_REASON = passed("reason", "given")
_ANY_LOGIN = passed("login", "any login")


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks what, taken apart once for all roles. `address`: None if the source is no IP address."""

    identity: VerifiedIdentity
    ask: Ask
    facts: Facts
    renewing: Renewal | None
    groups: frozenset[str]
    address: IPv4Address | IPv6Address | None


def take_apart(identity: VerifiedIdentity, ask: Ask, facts: Facts, renewing: Renewal | None) -> Question:
    return Question(identity, ask, facts, renewing, frozenset(identity.groups), _address(facts.source))


@lru_cache(maxsize=1024)
def _address(source: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(source)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or (None if address.scope_id else address)
    return address


def is_stranger(rule: Rule, question: Question) -> bool:
    """Whether the person is outside the role's groups and users."""
    return (
        not rule.everyone
        and question.identity.name not in rule.users
        and rule.groups.isdisjoint(question.groups)
    )  # fmt: skip


def person(rule: Rule, question: Question) -> Check:
    if rule.everyone:
        return _EVERYONE
    if is_stranger(rule, question):
        return rule.stranger.checks[0]
    if question.identity.name in rule.users:
        return _NAMED
    return passed("person", f"in group {min(rule.groups & question.groups)}")


def host(rule: Rule, facts: HostFacts) -> Check:
    what = rule.role.what
    if covers(rule, facts):
        labels = ", ".join(f"{key}={facts.labels[key]}" for key in what.labels)
        return passed("host", f"{facts.name} has {labels}" if labels else f"{facts.name} is covered")
    if rule.role.realm != facts.realm:
        return failed("host", f"the role is for realm {rule.role.realm}", f"ask in realm {rule.role.realm}")
    for key, values in what.labels.items():
        if facts.labels.get(key) not in values:
            wanted = f"{key}={' or '.join(values)}"
            return failed("host", f"{facts.name} has no label {wanted}", f"label the host {wanted}")
    return failed("host", f"{facts.name} is none of {', '.join(what.hosts)}", "name the host in the role")


def source(rule: Rule, question: Question) -> Check:
    if not rule.networks and CLIENT not in rule.role.options.source_address:
        return _ANY_SOURCE
    if question.address is None:
        return crashed("source", "the address cannot be read")
    if not rule.networks:
        return _ANY_SOURCE
    if inside := next((network for network in rule.networks if question.address in network), None):
        return passed("source", f"inside {inside}")
    networks = ", ".join(map(str, rule.networks))
    return failed("source", f"outside {networks}", f"come from {networks}")


def login(rule: Rule, facts: HostFacts, wanted: str) -> Check:
    """`wanted`: the login in question; "" if the host has none that a role gives."""
    if rule.denies:
        if not rule.logins:
            return _ANY_LOGIN
        return passed("login", f"{wanted} is named") if wanted in rule.logins else failed("login", f"not {wanted}")
    given = [each for each in facts.logins if each in rule.logins]
    if wanted in given:
        return passed("login", f"{wanted} is given")
    if not given:
        return failed("login", f"{facts.name} has none of the role's logins: {', '.join(sorted(rule.logins))}")
    return failed("login", f"the role gives {', '.join(given)}, not {wanted}", f"ask for {' or '.join(given)}")


def longest_s(rule: Rule, question: Question) -> int:
    """Seconds that a new grant under this role may have now."""
    longest = rule.role.how_long.grant
    return min(longest, _token_s(question)) if rule.role.how_long.within_token else longest


def _token_s(question: Question) -> int:
    ends_at = question.identity.token_ends_at
    return 0 if ends_at is None else max(0, (ends_at - question.facts.now) // SECOND)


def token(rule: Rule, question: Question) -> Iterator[Check]:
    """Nothing where the role does not ask for it."""
    if rule.role.how_long.within_token:
        how = "is not known" if question.identity.token_ends_at is None else "has ended"
        words = f"the role's access ends with the token of the sign-in, and that {how}"
        yield _TOKEN if _token_s(question) else failed("token", words, "sign in again: jitctl login")


def minutes(rule: Rule, question: Question) -> Check:
    if question.renewing:
        given = rule.role.how_long.grant
        if question.facts.now - question.renewing.opened_at < given * SECOND:
            return _MINUTES
        return failed("minutes", f"the role gives {span(given)} and they have passed", "ask for a new grant")
    longest = longest_s(rule, question) or rule.role.how_long.grant  # `token` says the rest
    if question.ask.minutes is None or question.ask.minutes * 60 <= longest:
        return _MINUTES
    hint = f"ask for at most {longest // 60} minutes" if longest >= 60 else "do not ask for minutes"  # noqa: PLR2004
    giver = "the role gives" if longest == rule.role.how_long.grant else "the token of the sign-in leaves"
    return failed("minutes", f"{question.ask.minutes} minutes asked, {giver} at most {span(longest)}", hint)


def span(seconds: int) -> str:
    """Seconds as a role file says them: 900 is "15m"."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def factors(rule: Rule, question: Question) -> Check:
    wanted = rule.role.factors
    if not wanted:
        return _FACTORS
    if missing := [each for each in wanted if each not in BUILT_FACTORS]:
        return failed("factors", f"the role asks for {', '.join(missing)}, which this version cannot check")
    shown_factors = {factor.value for factor, _ in question.identity.factors}
    if absent := [each for each in wanted if each not in shown_factors]:
        return failed("factors", f"signed in without {', '.join(absent)}", f"sign in again with {', '.join(absent)}")
    return _FACTORS


def approval(rule: Rule) -> Check:
    if rule.role.approval is None:
        return _APPROVAL
    return failed("approval", "the role asks for approval, which this version cannot give")


def recording(rule: Rule) -> Check:
    if rule.role.recording == "none":
        return _RECORDING
    return failed("recording", "the role asks for recording, which this version cannot do")


def schedule(rule: Rule) -> Check:
    if rule.role.schedule is None:
        return _SCHEDULE
    return failed("schedule", "the role has a schedule, which this version cannot follow")


def reason(rule: Rule, question: Question) -> Check:
    if rule.role.reason == "optional":
        return _NO_REASON_ASKED
    if question.ask.reason.strip():
        return _REASON
    return failed("reason", "a reason is required", "say why you need it")
