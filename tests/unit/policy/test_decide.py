import re
from dataclasses import replace

import pytest
from tests.unit.policy.given import NOW, WEB, facts, host, permitted, person, policy, refused

from jitgate.core.clock import SECOND
from jitgate.core.outcome import Outcome
from jitgate.identity.model import Factor
from jitgate.policy.checks import span
from jitgate.policy.decide import decide
from jitgate.policy.model import Ask, Deny, Facts, HostFacts, Permit, Renewal

OPS = person("ops")
ROOT = "role: root\neffect: allow\nwho: {groups: [ops]}\nwhat: {hosts: ['web*']}\nas: [root]\n"
FREEZE = "role: freeze\neffect: deny\n"


def test_no_policy_denies():
    decision = decide(OPS, Ask("web1"), facts(), None)
    assert isinstance(decision, Deny)
    assert decision.code == "no_policy"


def test_a_permit_carries_what_the_role_says_and_no_more():
    role = WEB + "how_long: {grant: 2h, certificate: 10m}\nextensions: [permit-pty]\noptions: {force_command: uptime}\n"
    permit = permitted(policy(role), OPS, Ask("web1"))
    assert (permit.role.name, permit.login, permit.grant_s, permit.certificate_s) == ("web", "ubuntu", 7200, 600)
    assert permit.options == (("force-command", "uptime"),)
    assert permit.role.extensions == ("permit-pty",)
    assert all(check.passed for check in permit.checks)


@pytest.mark.parametrize(
    ("ask", "who", "known", "code"),
    [
        (Ask("web1"), person(), facts(), "no_role"),
        (Ask("web2"), OPS, facts(host("web2")), "no_role"),
        (Ask("web1", "root"), OPS, facts(), "login_refused"),
        (Ask("web1"), OPS, facts(host("web1", "admin")), "login_refused"),
        (Ask("web1", "ubuntu"), OPS, facts(host("web1", "admin")), "login_refused"),
        (Ask("web1", minutes=61), OPS, facts(), "too_long"),
        (Ask("web1", role="other"), OPS, facts(), "no_role"),
        (Ask("web1"), OPS, Facts(HostFacts("web1", "acme", {}, ("ubuntu",)), NOW, "192.0.2.7"), "no_role"),
    ],
)
def test_what_no_role_gives_is_refused(ask, who, known, code):
    assert refused(policy(WEB), who, ask, known).code == code


def test_facts_about_another_host_than_asked_for_give_nothing():
    both = policy(WEB.replace("[web1]", "[web1, web2]"))
    permitted(both, OPS, Ask("web2"), facts(host("web2")))
    assert refused(both, OPS, Ask("web2"), facts(host("web1"))).code == "no_role"


@pytest.mark.parametrize("what", ["hosts: [web1]", "hosts: ['web*']", "hosts: ['*']", "labels: {env: prod}"])
def test_a_role_that_is_named_still_has_to_cover_the_host(what):
    bundle = policy(WEB.replace("hosts: [web1]", what))
    permitted(bundle, OPS, Ask("web1", role="web"))
    elsewhere = HostFacts("web1", "acme", {"env": "prod"}, ("ubuntu",))
    assert refused(bundle, OPS, Ask("web1", role="web"), facts(elsewhere)).code == "no_role"
    if "'*'" not in what:
        assert refused(bundle, OPS, Ask("db1", role="web"), facts(host("db1", env="dev"))).code == "no_role"


def test_a_deny_rule_has_no_time_of_its_own():
    bundle = policy(WEB + "how_long: {grant: 8h}\n", FREEZE)
    assert refused(bundle, OPS, Ask("web1", minutes=120)).code == "denied_by_rule"


def test_a_deny_rule_cannot_be_asked_for():
    decision = refused(policy(WEB, FREEZE + "who: {users: [bob]}\n"), OPS, Ask("web1", role="freeze"))
    assert (decision.code, decision.why) == ("no_role", "there is no allow role freeze")


def test_of_several_refused_logins_the_nearest_is_explained():
    forbidden = FREEZE + "as: [ubuntu]\n"
    wanting = ROOT + "reason: required\n"
    for at in (host("web1", "ubuntu", "root"), host("web1", "root", "ubuntu")):
        decision = refused(policy(WEB, wanting, forbidden), OPS, Ask("web1"), facts(at))
        assert (decision.code, decision.login) == ("reason_needed", "root")
        farther = refused(policy(WEB + "reason: required\nfactors: [webauthn]\n", wanting), OPS, Ask("web1"), facts(at))
        assert farther.login == "root"


def test_minutes_are_given_exactly_or_refused():
    bundle = policy(WEB + "how_long: {grant: 1h}\n")
    assert permitted(bundle, OPS, Ask("web1", minutes=60)).grant_s == 3600
    short = permitted(bundle, OPS, Ask("web1", minutes=5))
    assert (short.grant_s, short.certificate_s) == (300, 300)  # a certificate never outlives what was asked for
    assert refused(bundle, OPS, Ask("web1", minutes=61)).hint == "ask for at most 60 minutes"
    seconds = policy(WEB + "how_long: {grant: 5s}\n")
    assert permitted(seconds, OPS, Ask("web1")).grant_s == 5
    assert refused(seconds, OPS, Ask("web1", minutes=1)).code == "too_long"


def test_nothing_outlives_the_token_where_the_role_says_so():
    bundle = policy(WEB + "how_long: {grant: 1h, within_token: true}\n")
    half = replace(OPS, token_ends_at=NOW + 1800 * SECOND)
    permit = permitted(bundle, half, Ask("web1"))
    assert (permit.grant_s, permit.certificate_s) == (1800, 900)
    assert permitted(bundle, half, Ask("web1", minutes=30)).grant_s == 1800
    longer = refused(bundle, half, Ask("web1", minutes=31))
    assert (longer.code, longer.hint) == ("too_long", "ask for at most 30 minutes")
    assert longer.why == "31 minutes asked, the token of the sign-in leaves at most 30m"
    assert permitted(bundle, replace(OPS, token_ends_at=NOW + 7200 * SECOND), Ask("web1")).grant_s == 3600
    short = permitted(bundle, replace(OPS, token_ends_at=NOW + 2 * SECOND - 1), Ask("web1"))
    assert (short.grant_s, short.certificate_s) == (1, 1)
    assert permitted(policy(WEB), half, Ask("web1")).grant_s == 3600


@pytest.mark.parametrize("ends_at", [None, NOW - 1, NOW, NOW + SECOND - 1])
def test_a_role_within_the_token_gives_nothing_without_one(ends_at):
    bundle = policy(WEB + "how_long: {within_token: true}\n")
    for ask in (Ask("web1"), Ask("web1", minutes=30)):
        decision = refused(bundle, replace(OPS, token_ends_at=ends_at), ask)
        assert (decision.code, decision.hint) == ("token_ended", "sign in again: jitctl login")
    again = Renewal(NOW - SECOND, 60)
    assert isinstance(decide(replace(OPS, token_ends_at=ends_at), Ask("web1"), facts(), bundle, renewing=again), Deny)


def test_a_deny_rule_is_asked_about_the_minutes_that_the_token_leaves():
    rule = FREEZE + "who: {condition: 'request.minutes > 10'}\n"
    bundle = policy(WEB + "how_long: {grant: 1h, within_token: true}\n", rule)
    permitted(bundle, replace(OPS, token_ends_at=NOW + 600 * SECOND), Ask("web1"))
    longer = replace(OPS, token_ends_at=NOW + 601 * SECOND)
    assert refused(bundle, longer, Ask("web1")).code == "denied_by_rule"


def test_the_login_is_the_asked_one_or_the_only_one():
    bundle = policy(WEB, ROOT)
    several = refused(bundle, OPS, Ask("web1"))
    assert (several.code, several.role, several.login) == ("login_needed", "web", "")
    assert several.hint == "choose one of ubuntu, root"
    assert permitted(bundle, OPS, Ask("web1", "root")).role.name == "root"
    assert permitted(bundle, OPS, Ask("web1", role="web")).login == "ubuntu"
    assert permitted(policy(WEB, ROOT.replace("ops", "dba")), OPS, Ask("web1")).login == "ubuntu"


def test_one_role_is_taken_and_never_merged():
    long = WEB.replace("role: web", "role: long") + "how_long: {grant: 8h}\nextensions: [permit-pty]\n"
    bundle = policy(WEB, long)
    first = permitted(bundle, OPS, Ask("web1"))
    assert (first.role.name, first.grant_s, first.role.extensions) == ("web", 3600, ())
    assert permitted(bundle, OPS, Ask("web1", role="long")).grant_s == 8 * 3600
    assert permitted(bundle, OPS, Ask("web1", minutes=120)).role.name == "long"  # the only one that gives two hours


@pytest.mark.parametrize(
    "denial",
    [
        "",
        "who: {groups: [ops]}\n",
        "who: {users: [alice]}\n",
        "what: {hosts: [web1]}\n",
        "what: {hosts: ['we*']}\n",
        "what: {labels: {env: [dev, prod]}}\n",
        "as: [ubuntu]\n",
        "who: {sources: [192.0.2.0/24]}\n",
        "who: {condition: \"user.name == 'alice'\"}\n",
        "who: {condition: 'request.minutes > 59'}\n",  # nothing was asked for, but the role gives sixty
        "who: {condition: \"host.labels.nothing == 'x'\"}\n",  # crashes: it cannot tell, so it forbids
    ],
)
def test_a_deny_rule_that_applies_wins(denial):
    for bundle in (policy(WEB, FREEZE + denial), policy(FREEZE + denial, WEB)):
        for ask in (Ask("web1"), Ask("web1", "ubuntu", role="web")):
            decision = refused(bundle, OPS, ask)
            assert (decision.code, decision.role) == ("denied_by_rule", "freeze")
            assert not decision.checks[0].hint


@pytest.mark.parametrize(
    "denial",
    [
        "who: {groups: [contractors]}\n",
        "who: {users: [bob]}\n",
        "what: {hosts: [web2, 'x*']}\n",
        "what: {labels: {env: prod, tier: db}}\n",
        "realm: acme\n",
        "as: [root]\n",
        "who: {sources: [198.51.100.0/24]}\n",
        "who: {condition: 'request.minutes > 60'}\n",
        "who: {groups: [contractors], condition: \"host.labels.nothing == 'x'\"}\n",
    ],
)
def test_a_deny_rule_about_something_else_does_not_speak(denial):
    permitted(policy(WEB, FREEZE + denial), OPS, Ask("web1"))


def test_a_deny_rule_about_length_leaves_a_shorter_role():
    short = WEB.replace("role: web", "role: short") + "how_long: {grant: 30m}\n"
    bundle = policy(WEB, short, FREEZE + "who: {condition: 'request.minutes > 30'}\n")
    assert permitted(bundle, OPS, Ask("web1")).role.name == "short"
    assert refused(bundle, OPS, Ask("web1", minutes=31)).code == "denied_by_rule"


def test_a_deny_rule_about_length_is_told_where_nothing_is_permitted():
    """Refused either way; which it is decides what the person is told, and what the log says."""
    bundle = policy(WEB, "role: brief\neffect: deny\nwho: {condition: 'request.minutes > 60'}\n")
    stranger = person("dba")
    assert refused(bundle, stranger, Ask("web1")).code == "no_role"
    assert refused(bundle, stranger, Ask("web1", minutes=60)).code == "no_role"
    assert refused(bundle, stranger, Ask("web1", minutes=61)).code == "denied_by_rule"
    never = policy(WEB, "role: brief\neffect: deny\nwho: {condition: 'request.minutes > 0'}\n")
    assert refused(never, stranger, Ask("web1")).code == "no_role"


def test_an_address_that_cannot_be_read_fails_what_asks_for_one():
    known = facts(source="unix")
    permitted(policy(WEB), OPS, Ask("web1"), known)
    crashed = refused(
        policy(WEB.replace("groups: [ops]", "groups: [ops], sources: [0.0.0.0/0]")), OPS, Ask("web1"), known
    )
    assert [check.name for check in crashed.checks if check.outcome is Outcome.CRASHED] == ["source"]
    assert (
        refused(policy(WEB + "options: {source_address: client}\n"), OPS, Ask("web1"), known).code == "source_refused"
    )
    assert (
        refused(policy(WEB, FREEZE + "who: {sources: [198.51.100.0/24]}\n"), OPS, Ask("web1"), known).code
        == "denied_by_rule"
    )


@pytest.mark.parametrize(
    ("source", "option"),
    [("192.0.2.7", "192.0.2.7/32"), ("::ffff:192.0.2.7", "192.0.2.7/32"), ("2001:DB8::1", "2001:db8::1/128")],
)
def test_source_address_client_is_the_askers_own(source, option):
    permit = permitted(policy(WEB + "options: {source_address: client}\n"), OPS, Ask("web1"), facts(source=source))
    assert permit.options == (("source-address", option),)


def test_source_networks_of_a_role():
    inside = WEB.replace("groups: [ops]", "groups: [ops], sources: [192.0.2.0/24, '2001:db8::/32']")
    permitted(policy(inside), OPS, Ask("web1"))
    permitted(policy(inside), OPS, Ask("web1"), facts(source="2001:db8::5"))
    assert refused(policy(inside), OPS, Ask("web1"), facts(source="192.0.3.1")).code == "source_refused"
    listed = permitted(policy(WEB + "options: {source_address: [10.0.0.0/8, 192.0.2.0/24]}\n"), OPS, Ask("web1"))
    assert listed.options == (("source-address", "10.0.0.0/8,192.0.2.0/24"),)


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("approval: {groups: [leads]}", "approval"),
        ("recording: required", "recording"),
        ("factors: [webauthn]", "factors"),
        ("factors: [totp, security_key]", "factors"),
        ("schedule: {days: [mon, fri], from: '08:00', to: '18:00', timezone: Europe/Berlin}", "schedule"),
    ],
)
def test_what_this_version_lacks_is_refused_and_said(field, word):
    decision = refused(policy(f"{WEB}{field}\n"), OPS, Ask("web1"))
    failed = [check for check in decision.checks if not check.passed]
    assert [check.name for check in failed] == [word]
    assert "this version cannot" in failed[0].why
    other = WEB.replace("role: web", "role: plain")
    assert permitted(policy(f"{WEB}{field}\n", other), OPS, Ask("web1")).role.name == "plain"


def test_factors_are_those_of_the_sign_in():
    bundle = policy(WEB + "factors: [totp]\n")
    permitted(bundle, OPS, Ask("web1"))
    decision = refused(bundle, person("ops", factors=(Factor.PASSWORD,)), Ask("web1"))
    assert (decision.code, decision.hint) == ("factor_needed", "sign in again with totp")


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_required_reason_is_asked_for_only_when_nothing_else_is_wrong(reason):
    bundle = policy(WEB + "reason: required\n")
    assert refused(bundle, OPS, Ask("web1", reason=reason)).code == "reason_needed"
    assert refused(bundle, OPS, Ask("web1", reason=reason, minutes=90)).code == "too_long"
    permitted(bundle, OPS, Ask("web1", reason="deploy 1.2"))


def test_a_condition_that_breaks_or_is_false_refuses():
    role = WEB.replace("groups: [ops]", "groups: [ops], condition: \"host.labels.team == 'web'\"")
    bundle = policy(role)
    permitted(bundle, OPS, Ask("web1"), facts(host(team="web")))
    assert refused(bundle, OPS, Ask("web1"), facts(host(team="db"))).code == "condition_failed"
    crashed = refused(bundle, OPS, Ask("web1"))
    assert crashed.checks[-1].outcome is Outcome.CRASHED
    assert crashed.why == "the host has no label 'team'"


def test_a_condition_about_an_address_that_cannot_be_read_breaks():
    known = facts(source="unix")
    allowing = WEB.replace("groups: [ops]", "groups: [ops], condition: \"source.ip != '10.0.0.1'\"")
    assert refused(policy(allowing), OPS, Ask("web1"), known).checks[-1].outcome is Outcome.CRASHED
    forbidding = FREEZE + "who: {condition: \"source.ip == '10.0.0.1'\"}\n"
    assert refused(policy(WEB, forbidding), OPS, Ask("web1"), known).code == "denied_by_rule"


@pytest.mark.parametrize(("grant", "minutes"), [("8h", 480), ("61s", 2), ("5s", 1)])
def test_request_minutes_are_the_roles_when_none_are_asked_for(grant, minutes):
    condition = f"groups: [ops], condition: 'request.minutes == {minutes}'"
    bundle = policy(WEB.replace("groups: [ops]", condition) + f"how_long: {{grant: {grant}}}\n")
    seconds = permitted(bundle, OPS, Ask("web1")).grant_s
    again = decide(OPS, Ask("web1", role="web"), facts(), bundle, renewing=Renewal(NOW, seconds))
    assert isinstance(again, Permit)


def test_the_words_of_a_refusal():
    labelled = WEB.replace("hosts: [web1]", "labels: {env: prod, tier: [web, app]}")
    why = refused(policy(labelled), OPS, Ask("web1", role="web")).why
    assert why == "web1 has no label tier=web or app"
    elsewhere = HostFacts("web1", "acme", {}, ("ubuntu",))
    assert refused(policy(WEB), OPS, Ask("web1", role="web"), facts(elsewhere)).why == "the role is for realm default"
    nothing = refused(policy(WEB), OPS, Ask("web1"), facts(host("web1", "admin")))
    assert nothing.why == "web1 has none of the role's logins: ubuntu"
    assert [span(seconds) for seconds in (86400, 7200, 5400, 90)] == ["1d", "2h", "90m", "90s"]


def test_the_condition_is_not_run_for_a_role_that_cannot_match():
    role = WEB.replace("groups: [ops]", "groups: [ops], condition: \"host.labels.team == 'web'\"")
    decision = refused(policy(role), OPS, Ask("web1", "root"))
    assert decision.checks[-1].why.startswith("not looked at")
    assert "not looked at" not in decision.why


def test_every_closed_name_has_its_value():
    condition = (
        "user.name == 'alice' && user.groups == ['ops'] && user.issuer == 'local'"
        " && auth.factors == ['password', 'totp']"
        " && auth.age_s == 60 && host.name == 'web1' && host.labels.env == 'prod' && host.realm == 'default'"
        " && request.login == 'ubuntu' && request.minutes == 30 && request.reason == 'why' && request.ticket == 'T-1'"
        " && source.ip == '192.0.2.7' && now == timestamp('2027-01-15T08:00:00Z')"
    )
    role = WEB.replace("groups: [ops]", f'groups: [ops], condition: "{condition}"')
    permitted(policy(role), OPS, Ask("web1", minutes=30, reason=" why ", ticket="T-1"))


def test_more_groups_than_a_condition_may_walk_is_a_crash():
    crowd = person("ops", *(f"g{number}" for number in range(256)))
    role = WEB.replace("groups: [ops]", "groups: [ops], condition: \"'ops' in user.groups\"")
    assert refused(policy(role), crowd, Ask("web1")).checks[-1].outcome is Outcome.CRASHED


def test_checks_are_logged_and_name_neither_person_nor_address():
    who = 'who: {groups: [ops], users: [alice, bob], sources: [%s], condition: "%s"}'
    roles = [
        WEB.replace("web\n", f"r{number}\n").replace("who: {groups: [ops]}", who % pair)
        for number, pair in enumerate(
            (networks, condition)
            for networks in ("192.0.2.0/24", "198.51.100.0/24")
            for condition in ("source.ip == user.name", "host.labels.env == 'prod' || timestamp(user.name) < now")
        )
    ]
    named = WEB.replace("role: web", "role: named").replace("groups: [ops]", "users: [bob]")
    dev = host(env="dev")
    for known in (facts(dev), facts(dev, source="2001:db8::1"), facts(dev, source="alice's box")):
        for identity in (OPS, person()):
            decision = decide(identity, Ask("web1", reason="x"), known, policy(named, *roles), complete=True)
            said = " ".join(f"{check.why} {check.hint}" for each in decision.examined for check in each.checks)
            assert not re.search("alice|bob|192.0.2.7|2001:db8::1", said)


def test_the_nearest_role_is_explained():
    far = WEB.replace("role: web", "role: far") + "factors: [webauthn]\nreason: required\n"
    near = WEB.replace("role: web", "role: near") + "reason: required\n"
    stranger = WEB.replace("ops", "dba").replace("role: web", "role: stranger")
    decision = refused(policy(stranger, far, near), OPS, Ask("web1"))
    assert (decision.role, decision.hint) == ("near", "say why you need it")


def test_a_renewal_is_asked_as_at_the_opening():
    young = WEB.replace("groups: [ops]", "groups: [ops], condition: 'auth.age_s < 300 && request.minutes == 60'")
    later = facts(now=NOW + 1800 * 1_000_000)
    ask = Ask("web1", "ubuntu", role="web")
    bundle = policy(young)
    renewed = decide(OPS, ask, later, bundle, renewing=Renewal(NOW, 3600))
    assert isinstance(renewed, Permit)
    assert (renewed.grant_s, renewed.renewing) == (3600, Renewal(NOW, 3600))
    brief = decide(OPS, ask, facts(), policy(WEB), renewing=Renewal(NOW, 600))
    assert isinstance(brief, Permit)
    assert (brief.grant_s, brief.certificate_s) == (600, 600)  # never longer than the grant was
    assert isinstance(decide(OPS, ask, later, bundle), Deny)  # for a new grant the sign-in is too old
    shorter = policy(young + "how_long: {grant: 20m}\n")
    over = decide(OPS, ask, later, shorter, renewing=Renewal(NOW, 3600))
    assert isinstance(over, Deny)
    assert over.code == "too_long"


def test_explaining_examines_roles_of_others_to_the_end():
    bundle = policy(WEB.replace("ops", "dba") + "factors: [webauthn]\n")
    short = decide(OPS, Ask("web1"), facts(), bundle)
    full = decide(OPS, Ask("web1"), facts(), bundle, complete=True)
    assert [check.name for check in short.examined[0].checks] == ["person"]
    names = ["person", "host", "source", "login", "minutes", "factors", "approval", "recording", "schedule", "reason"]
    assert [check.name for check in full.examined[0].checks] == [*names, "condition"]
    assert not full.examined[0].matched
