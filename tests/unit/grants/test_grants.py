from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.policy.given import GRANT, NOW, WEB, facts, host, permitted, person, policy

from jitgate.core.clock import MINUTE, SECOND, Micros
from jitgate.core.errors import BadInput, Conflict, Denied
from jitgate.grants.lifecycle import end, is_active, open_grant, state
from jitgate.grants.model import Grant, Target
from jitgate.grants.renew import narrow, renewal, still_permitted
from jitgate.grants.rows import restore, terms
from jitgate.identity.model import Factor, VerifiedIdentity
from jitgate.policy.bundle import PolicyBundle
from jitgate.policy.decide import decide
from jitgate.policy.model import Ask, Deny, Facts, Permit, Renewal

OPS = person("ops")
RICH = (
    WEB + "how_long: {grant: 2h, certificate: 10m}\nextensions: [permit-pty, permit-agent-forwarding]\n"
    "options: {source_address: client, force_command: uptime}\nmetadata: {team: blue, app: shop}\nfactors: [totp]\n"
    "reason: required\non_expiry: keep\nmax_session: 8h\n"
)
ASK = Ask("web1", reason=" fix it ", ticket="T-1")
WEB1 = Target("web1", "ubuntu")


def opened(bundle: PolicyBundle, ask: Ask = ASK) -> Grant:
    return open_grant(permitted(bundle, OPS, ask), (), NOW, lambda: GRANT)


def renewed(
    grant: Grant, bundle: PolicyBundle | None, *, known: Facts | None = None, who: VerifiedIdentity = OPS
) -> Grant:
    known = known or facts(now=NOW + MINUTE)
    return narrow(grant, still_permitted(grant, WEB1, who, known, bundle), known.now)


def test_a_grant_fixes_what_the_permit_says():
    bundle = policy(RICH)
    grant = opened(bundle)
    assert (grant.id, grant.realm, grant.role, grant.policy_digest) == (GRANT, "default", "web", bundle.digest)
    assert (grant.person_id, grant.holder.name, grant.holder.factors) == (OPS.person_id, "alice", OPS.factors)
    assert (grant.targets, grant.reason, grant.ticket) == ((WEB1,), "fix it", "T-1")
    assert (grant.opened_at, grant.ends_at, grant.certificate_s) == (NOW, NOW + 120 * MINUTE, 600)
    assert grant.options == (("force-command", "uptime"), ("source-address", "192.0.2.7/32"))
    assert grant.extensions == ("permit-agent-forwarding", "permit-pty")
    assert grant.metadata == (("app", "shop"), ("team", "blue"))
    assert (grant.on_expiry, grant.max_session_s) == ("keep", 8 * 3600)


def test_only_a_permit_of_this_moment_for_a_new_grant_opens_one():
    permit = permitted(policy(WEB), OPS, ASK)
    open_grant(permit, (), NOW + 60 * SECOND, lambda: GRANT)
    for late in (NOW + 61 * SECOND, NOW - 61 * SECOND):
        with pytest.raises(BadInput, match="not decided now"):
            open_grant(permit, (), late, lambda: GRANT)
    with pytest.raises(BadInput, match="approval"):
        open_grant(permit, ("yes",), NOW, lambda: GRANT)
    again = decide(OPS, Ask("web1", "ubuntu", role="web"), facts(), policy(WEB), renewing=renewal(opened(policy(WEB))))
    assert isinstance(again, Permit)
    with pytest.raises(BadInput, match="for a new grant"):
        open_grant(again, (), NOW, lambda: GRANT)


def test_a_grant_is_active_to_before_its_end_and_ends_once():
    grant = opened(policy(WEB))
    assert is_active(grant, NOW)
    assert is_active(grant, grant.ends_at - 1)
    assert state(grant, grant.ends_at) == "expired"
    ended = end(grant, " by its holder ", NOW + MINUTE)
    assert (ended.ended_at, ended.end_reason, state(ended, NOW + MINUTE)) == (NOW + MINUTE, "by its holder", "ended")
    assert ended.ends_at == grant.ends_at
    assert state(ended, grant.ends_at) == "ended"
    with pytest.raises(Conflict):
        end(ended, "again", NOW + MINUTE)
    with pytest.raises(Conflict):
        end(grant, "late", grant.ends_at)
    with pytest.raises(BadInput):
        end(grant, " ", NOW)
    assert end(grant, "the clock went back", NOW - MINUTE).ended_at == NOW


@pytest.mark.parametrize(
    "change",
    [
        {"id": "x"},
        {"role": "Web"},
        {"realm": ""},
        {"targets": ()},
        {"targets": (WEB1, WEB1)},
        {"targets": tuple(Target(f"h{number}", "ubuntu") for number in range(257))},
        {"ends_at": NOW},
        {"ended_at": NOW - 1},
        {"certificate_s": 0},
        {"max_session_s": 0},
        {"on_expiry": "keep"},
        {"on_expiry": "never", "max_session_s": 60},
        {"reason": "a\nb"},
        {"end_reason": "a\x1b[2J"},
        {"options": (("source-address", "10.0.0.0/8"), ("force-command", "x"))},
        {"options": (("force-command", "x"), ("force-command", "y"))},
        {"extensions": ("permit-pty", "permit-agent-forwarding")},
        {"metadata": (("a", "1"), ("a", "2"))},
    ],
)
def test_what_no_permit_could_give_is_no_grant(change):
    grant = opened(policy(WEB))
    with pytest.raises(BadInput):
        replace(grant, **change)


@pytest.mark.parametrize("target", [("web1", "ubuntu,root"), ("web*", "root"), ("web1", "")])
def test_a_target_is_one_login_on_one_host(target):
    with pytest.raises(BadInput):
        Target(*target)


@dataclass
class Row:
    id: str
    person_id: str
    role: str
    policy_digest: str
    terms: str
    reason: str
    opened_at: Micros
    ends_at: Micros
    ended_at: Micros | None
    end_reason: str


def row(grant: Grant) -> Row:
    return Row(
        grant.id, grant.person_id, grant.role, grant.policy_digest, terms(grant), grant.reason, grant.opened_at,
        grant.ends_at, grant.ended_at, grant.end_reason,
    )  # fmt: skip


def test_a_grant_comes_back_from_its_row():
    for grant in (opened(policy(WEB)), end(opened(policy(RICH)), "done", NOW)):
        assert restore(row(grant), "default", [("web1", "ubuntu")]) == grant


@pytest.mark.parametrize(
    "broken",
    ["", "[]", "null", '{"version": 2}', '{"version": 1}', '"x"'],
)
def test_a_row_that_cannot_be_read_is_refused(broken):
    kept = row(opened(policy(WEB)))
    kept.terms = broken
    with pytest.raises(BadInput):
        restore(kept, "default", [("web1", "ubuntu")])
    kept.terms = terms(opened(policy(WEB))).replace('"totp"', '"none"')
    with pytest.raises(BadInput):
        restore(kept, "default", [("web1", "ubuntu")])


def test_a_certificate_is_asked_for_again_with_today_in_mind():
    bundle = policy(RICH)
    grant = opened(bundle)
    assert renewal(grant) == Renewal(NOW, 7200)
    assert renewed(grant, bundle) == grant
    old_sign_in = person("ops", factors=(Factor.PASSWORD,), age=99_999)  # the grant's own sign-in counts
    assert renewed(grant, bundle, who=old_sign_in) == grant


def test_a_condition_is_asked_again_about_the_ask_and_the_sign_in_of_the_opening():
    condition = "request.ticket == 'T-1' && request.reason == 'fix it' && user.issuer == 'local'"
    bundle = policy(RICH.replace("groups: [ops]", f'groups: [ops], condition: "{condition}"'))
    grant = opened(bundle)
    assert renewed(grant, bundle) == grant


def test_a_grant_does_not_go_on_under_another_way_of_signing_in():
    bundle = policy(RICH)
    with pytest.raises(Denied, match="another way of signing in"):
        renewed(opened(bundle), bundle, who=replace(OPS, issuer="https://idp.example.org"))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ((RICH.replace("[ops]", "[dba]"),), "not in group dba"),
        ((RICH.replace("role: web", "role: other"),), "no allow role web"),
        ((RICH.replace("effect: allow", "effect: allow\nrecording: required"),), "asks for recording"),
        ((RICH.replace("as: [ubuntu]", "as: [root]"),), "not ubuntu"),
        ((RICH.replace("web1", "web2"),), "web1 is none of web2"),
        ((RICH, "role: freeze\neffect: deny\n"), "the rule freeze forbids it"),
        ((RICH.replace("uptime", "date"),), "no longer the grant's"),
        ((RICH.replace(", force_command: uptime", ""),), "no longer the grant's"),
        ((RICH.replace("grant: 2h, certificate: 10m", "grant: 1m, certificate: 1m"),), "they have passed"),
    ],
)
def test_a_policy_that_changed_refuses_the_next_certificate(texts, words):
    with pytest.raises(Denied, match=words):
        renewed(opened(policy(RICH)), policy(*texts))


def test_without_a_policy_there_is_no_next_certificate():
    with pytest.raises(Denied, match="no policy"):
        renewed(opened(policy(RICH)), None)


def test_a_role_that_gives_less_narrows_the_next_certificate():
    less = RICH.replace("grant: 2h, certificate: 10m", "grant: 1h, certificate: 5m").replace(
        ", permit-agent-forwarding", ""
    )
    grant = renewed(opened(policy(RICH)), policy(less))
    assert (grant.ends_at, grant.certificate_s, grant.extensions) == (NOW + 60 * MINUTE, 300, ("permit-pty",))
    more = RICH.replace("grant: 2h, certificate: 10m", "grant: 8h, certificate: 1h").replace(
        "[permit-pty", "[permit-user-rc, permit-pty"
    )
    assert renewed(opened(policy(RICH)), policy(more)) == opened(policy(RICH))


def test_another_address_needs_another_grant():
    bundle = policy(RICH)
    with pytest.raises(Denied, match="no longer the grant's"):
        renewed(opened(bundle), bundle, known=facts(source="192.0.2.8", now=NOW + MINUTE))


def test_only_its_holder_and_only_its_targets():
    bundle = policy(RICH)
    grant = opened(bundle)
    with pytest.raises(Denied, match="somebody else's"):
        renewed(grant, bundle, who=replace(OPS, person_id=GRANT))
    with pytest.raises(Denied, match="not for root on web1"):
        still_permitted(grant, Target("web1", "root"), OPS, facts(), bundle)


def test_an_answer_about_something_else_does_not_count():
    bundle = policy(WEB, WEB.replace("role: web", "role: two").replace("[web1]", "[web1, web2]"))
    grant = opened(bundle, Ask("web1", role="web"))
    again = still_permitted(grant, WEB1, OPS, facts(), bundle)
    assert isinstance(again, Permit)
    narrow(grant, again, NOW)
    for other in (
        permitted(bundle, OPS, Ask("web1", role="web")),  # for a new grant
        replace(again, role=bundle.rules["two"].role),
        replace(again, identity=replace(OPS, person_id=GRANT)),
        replace(again, facts=facts(host("web2"))),
        replace(again, facts=Facts(replace(again.facts.host, realm="acme"), NOW, "192.0.2.7")),
        replace(again, login="root"),
    ):
        with pytest.raises(Denied, match="something else"):
            narrow(grant, other, NOW)


def test_nothing_is_issued_under_a_grant_that_is_over():
    bundle = policy(WEB)
    grant = opened(bundle)
    again = still_permitted(grant, WEB1, OPS, facts(), bundle)
    with pytest.raises(Denied, match="has run out"):
        narrow(grant, again, grant.ends_at)
    with pytest.raises(Denied, match="has ended"):
        narrow(end(grant, "enough", NOW), again, NOW + 1)


def test_a_grant_and_what_is_issued_under_it_end_with_the_token():
    within = policy(WEB + "how_long: {grant: 1h, within_token: true}\n")
    who = replace(OPS, token_ends_at=NOW + 10 * MINUTE + 1)
    grant = open_grant(permitted(within, who, ASK), (), NOW, lambda: GRANT)
    assert grant.ends_at == NOW + 10 * MINUTE
    late = open_grant(permitted(within, who, ASK), (), NOW + MINUTE, lambda: GRANT)
    assert late.ends_at == who.token_ends_at

    longer = opened(policy(WEB))  # the role came to say so afterwards
    assert renewed(longer, within, who=who).ends_at == who.token_ends_at
    with pytest.raises(Denied) as refused:
        renewed(longer, within, who=replace(who, token_ends_at=NOW + MINUTE))
    assert refused.value.code == "token_ended"


@settings(max_examples=60, deadline=None)
@given(
    first=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    second=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    wanted=st.none() | st.integers(1, 200),
    later=st.integers(0, 250),
)
def test_a_grant_never_outlives_its_role_and_narrowing_only_narrows(first, second, wanted, later):
    def role(grant: int, certificate: int) -> str:
        return WEB + f"how_long: {{grant: {grant}m, certificate: {min(grant, certificate)}m}}\n"

    decision = decide(OPS, Ask("web1", minutes=wanted), facts(), policy(role(*first)))
    if wanted is not None and wanted > first[0]:
        assert isinstance(decision, Deny)
        return
    assert isinstance(decision, Permit)
    grant = open_grant(decision, (), NOW, lambda: GRANT)
    assert grant.ends_at == NOW + (wanted or first[0]) * MINUTE
    assert NOW + grant.certificate_s * SECOND <= grant.ends_at
    try:
        now = renewed(grant, policy(role(*second)), known=facts(now=NOW + later * MINUTE))
    except Denied:
        assert later >= min(wanted or first[0], second[0])
        return
    assert later < min(wanted or first[0], second[0])
    assert now.ends_at == NOW + min(wanted or first[0], second[0]) * MINUTE
    assert now.certificate_s <= min(grant.certificate_s, min(second) * 60)
