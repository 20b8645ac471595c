"""Over random policies: deny wins, nothing without a matching allow role, less policy never gives more."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.policy.given import NOW, facts, person, policy

from jitgate.core.clock import SECOND
from jitgate.core.outcome import Outcome
from jitgate.identity.model import Factor
from jitgate.policy.decide import decide
from jitgate.policy.model import Ask, Deny, Facts, HostFacts, Permit
from jitgate.policy.reach import reachable
from jitgate.policy.rule import covers

GROUPS = ("ops", "dba", "dev")
HOSTS = ("web1", "web2", "db1")
LOGINS = ("ubuntu", "root")
CONDITIONS = (
    "auth.age_s < 100",
    "host.labels.env == 'prod'",
    "request.login == 'root' || request.minutes < 45",
    "has(host.labels.tier)",
    "host.labels.tier == 'db'",
)


def _some(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


@st.composite
def role_texts(draw: st.DrawFn, name: str) -> str:
    deny = draw(st.integers(0, 3)) == 0
    who = [f"groups: [{', '.join(draw(_some(GROUPS)))}]"]
    if draw(st.booleans()):
        who.append(f'condition: "{draw(st.sampled_from(CONDITIONS))}"')
    if draw(st.booleans()):
        who.append("sources: [192.0.2.0/24]")
    what = draw(st.sampled_from(("hosts: ['*']", "hosts: ['web*', db1]", "hosts: [web1]", "labels: {env: [prod, dev]}",
                                 "labels: {env: prod, tier: db}")))  # fmt: skip
    lines = [
        f"role: {name}",
        f"effect: {'deny' if deny else 'allow'}",
        f"who: {{{', '.join(who)}}}",
        f"what: {{{what}}}",
    ]
    if not deny or draw(st.booleans()):
        lines.append(f"as: [{', '.join(draw(_some(LOGINS)))}]")
    if not deny:
        within = draw(st.sampled_from(("", ", within_token: true")))
        lines.append(f"how_long: {{grant: {draw(st.sampled_from(('30s', '30m', '1h', '8h')))}{within}}}")
        extra = (
            "reason: required",
            "factors: [totp]",
            "factors: [webauthn]",
            "recording: required",
            "extensions: [permit-pty]",
        )
        lines += draw(st.lists(st.sampled_from(extra), max_size=1))
    return "\n".join(lines) + "\n"


@st.composite
def policies(draw: st.DrawFn) -> list[str]:
    return [draw(role_texts(f"r{number}")) for number in range(draw(st.integers(1, 5)))]


people = st.builds(
    lambda groups, factors, age, ends: replace(person(*groups, factors=factors, age=age), token_ends_at=ends),
    st.lists(st.sampled_from(GROUPS), unique=True),
    st.sampled_from(((Factor.PASSWORD,), (Factor.PASSWORD, Factor.TOTP))),
    st.sampled_from((10, 1000)),
    st.sampled_from((None, NOW, NOW + 900_000_001, NOW + 7_200_000_000)),
)
labels = st.fixed_dictionaries({}, optional={"env": st.sampled_from(("prod", "dev")), "tier": st.just("db")})
hosts = st.builds(lambda name, tags: HostFacts(name, "default", tags, LOGINS), st.sampled_from(HOSTS), labels)
sources = st.sampled_from(("192.0.2.7", "198.51.100.1", "unix"))
minutes = st.sampled_from((None, 10, 60, 100))


@settings(max_examples=80, deadline=None)
@given(policies(), people, hosts, sources, st.sampled_from(LOGINS), minutes, st.data())
def test_a_permit_needs_one_matching_role_and_no_denial(texts, who, at, source, login, wanted, data):
    bundle = policy(*texts)
    ask = Ask(at.name, login, wanted, reason="why")
    known = Facts(at, NOW, source)
    answer = decide(who, ask, known, bundle)
    if isinstance(answer, Permit):
        rule = bundle.rules[answer.role.name]
        assert not rule.denies
        assert covers(rule, at)
        assert login in rule.logins
        assert rule.groups & set(who.groups)
        assert all(check.outcome is Outcome.PASSED for check in answer.checks)
        assert answer.grant_s <= rule.role.how_long.grant
        assert answer.certificate_s <= min(answer.grant_s, rule.role.how_long.certificate)
        assert wanted is None or answer.grant_s == wanted * 60
        ends = who.token_ends_at
        assert not rule.role.how_long.within_token or (ends and NOW + answer.grant_s * SECOND <= ends)
        for each in answer.examined:
            assert not (each.matched and each.effect == "deny")
        denial = f"role: last\neffect: deny\nwho: {{groups: [{who.groups[0]}]}}\nwhat: {{hosts: [{at.name}]}}\n"
        assert isinstance(decide(who, ask, known, policy(*texts, denial)), Deny)
    else:
        assert isinstance(answer, Deny)
        assert answer.why
        allows = [text for text in texts if "effect: allow" in text]
        if len(allows) > 1:  # fewer allow roles: still no
            gone = data.draw(st.sampled_from(allows))
            assert isinstance(decide(who, ask, known, policy(*(text for text in texts if text != gone))), Deny)


@settings(max_examples=50, deadline=None)
@given(policies(), people, hosts, sources, st.sampled_from(LOGINS), minutes)
def test_deciding_is_repeatable_and_explaining_changes_nothing(texts, who, at, source, login, wanted):
    bundle, ask, known = policy(*texts), Ask(at.name, login, wanted), Facts(at, NOW, source)
    answer = decide(who, ask, known, bundle)
    assert decide(who, ask, known, policy(*texts)) == answer
    complete = decide(who, ask, known, bundle, complete=True)
    assert type(complete) is type(answer)
    if isinstance(answer, Deny) and isinstance(complete, Deny):
        assert (complete.login, complete.code == "denied_by_rule") == (answer.login, answer.code == "denied_by_rule")


@settings(max_examples=50, deadline=None)
@given(policies(), people, st.lists(hosts, max_size=4, unique_by=lambda host: host.name), sources)
def test_the_list_of_hosts_says_what_the_decision_says(texts, who, many, source):
    bundle = policy(*texts)
    listed = {
        (name, answer.login): answer
        for name, answers in reachable(who, many, bundle, now=NOW, source=source)
        for answer in answers
    }
    for at in many:
        for login in LOGINS:
            plain = decide(who, Ask(at.name, login), Facts(at, NOW, source), bundle)
            reasoned = decide(who, Ask(at.name, login, reason="why"), Facts(at, NOW, source), bundle)
            said = listed.get((at.name, login))
            assert (said is not None and said.permitted) == isinstance(reasoned, Permit)
            if isinstance(plain, Permit):
                assert said is not None
                assert (said.role, said.why) == (plain.role.name, "")


@settings(max_examples=50, deadline=None)
@given(policies(), hosts)
def test_the_index_finds_what_covers(texts, at):
    bundle = policy(*texts)
    assert bundle.index.covering(at) == [rule for rule in bundle.rules.values() if covers(rule, at)]


def test_no_policy_reaches_nothing():
    assert reachable(person("ops"), [facts().host], None, now=NOW, source="192.0.2.7") == []
