"""Invariants 1 to 5: what a grant becomes, read back from what was signed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ca.samples import GRANT, NOW, RULES, WEB1, MemorySigner, finish, public

from jitgate.ca.ceilings import broken
from jitgate.ca.issue import issue
from jitgate.ca.shape import BACKDATE_S, METADATA, canonical_json, shape, shape_host, wider
from jitgate.core.clock import DAY, HOUR, SECOND
from jitgate.core.errors import BadInput, Conflict, Denied
from jitgate.grants.lifecycle import end
from jitgate.grants.model import Grant, Target
from jitgate.ssh.cert import CertificateBody, CertType, parse_certificate
from jitgate.ssh.wire import FormatError

logins = st.from_regex(r"[a-z_][a-z0-9_-]{0,31}", fullmatch=True)
hosts = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z])?", fullmatch=True).filter(lambda name: name != "localhost")
targets = st.lists(st.builds(Target, hosts, logins), min_size=1, max_size=5, unique=True).map(tuple)
options = st.dictionaries(
    st.sampled_from(["force-command", "source-address"]), st.just("192.0.2.0/24"), max_size=2
).map(lambda found: tuple(sorted(found.items())))
extensions = st.sets(st.sampled_from(["permit-pty", "permit-port-forwarding", "permit-agent-forwarding"])).map(
    lambda found: tuple(sorted(found))
)
words = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=40)
metadata = st.dictionaries(st.sampled_from(["team", "cost", "ticket"]), words).map(lambda m: tuple(sorted(m.items())))


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    return replace(
        GRANT,
        targets=draw(targets),
        ends_at=NOW + draw(st.integers(2 * SECOND, 40 * HOUR)),
        certificate_s=draw(st.integers(1, 24 * 3600)),
        options=draw(options),
        extensions=draw(extensions),
        metadata=draw(metadata),
    )


@given(grants(), st.data())
def test_what_was_signed_is_never_wider_than_its_grant(grant, data):
    target = data.draw(st.sampled_from(grant.targets))
    now = data.draw(st.integers(NOW, grant.ends_at - SECOND - 1))
    spec = shape(grant, target, public("laptop"), public("user"), now)
    issued = finish(issue(spec, 7, bytes(32), MemorySigner(clock=lambda: now)))

    body = parse_certificate(issued.certificate.blob).body
    assert body.type is CertType.USER
    assert body.key == public("laptop")
    assert body.principals == (f"{target.login}@host:{target.host}",)
    assert now - (BACKDATE_S + 1) * SECOND < body.valid_after * SECOND <= now
    assert now < body.valid_before * SECOND <= min(grant.ends_at, now + grant.certificate_s * SECOND)
    assert body.critical_options == grant.options
    assert {name for name, value in body.extensions if not value} == set(grant.extensions)
    assert [json.loads(value) for name, value in body.extensions if name == METADATA] == [dict(grant.metadata)] * bool(
        grant.metadata
    )
    assert body.key_id == f"jitgate grant={grant.id} person=alice"
    assert issued.grant_id == grant.id


def _wider_bodies() -> dict[str, CertificateBody]:
    body = shape(GRANT, WEB1, public("laptop"), public("user"), NOW).body(7)
    return {
        "principals": replace(body, principals=(*body.principals, "root@host:web1")),
        "validity": replace(body, valid_before=body.valid_before + 1),
        "validity before now": replace(body, valid_after=body.valid_after - 1),
        "critical options": replace(body, critical_options=()),
        "extensions": replace(body, extensions=(*body.extensions, ("permit-user-rc", ""))),
        "key id": replace(body, key_id=body.key_id.replace("alice", "bob")),
    }


@pytest.mark.parametrize("field", _wider_bodies())
def test_each_way_of_being_wider_is_seen(field):
    assert wider(_wider_bodies()[field], GRANT, NOW) == field


def test_the_gateways_address_stands_for_the_grants_and_for_nothing_else():
    gateway = "192.0.2.5/32"
    spec = shape(GRANT, WEB1, public("laptop"), public("user"), NOW, gateway=gateway)
    assert spec.critical_options == (("source-address", gateway),)
    assert wider(spec.body(7), GRANT, NOW, gateway=gateway) == ""
    assert wider(spec.body(7), GRANT, NOW) == "critical options"
    forced = replace(GRANT, options=(("force-command", "uptime"), ("source-address", "198.51.100.0/24")))
    spec = shape(forced, WEB1, public("laptop"), public("user"), NOW, gateway=gateway)
    assert spec.critical_options == (("force-command", "uptime"), ("source-address", gateway))
    without = replace(spec.body(7), critical_options=(("source-address", gateway),))
    assert wider(without, forced, NOW, gateway=gateway) == "critical options"


def test_a_validity_beyond_the_grant_is_seen_though_it_is_a_short_one():
    late = GRANT.ends_at - 10 * SECOND
    spec = shape(GRANT, WEB1, public("laptop"), public("user"), late)
    assert spec.valid_before_s == GRANT.ends_at // SECOND
    assert wider(replace(spec.body(7), valid_before=spec.valid_before_s + 1), GRANT, late) == "validity"


def test_metadata_of_another_value_is_seen():
    spec = shape(GRANT, WEB1, public("laptop"), public("user"), NOW)
    other = replace(spec.body(7), extensions=((METADATA, '{"team":"red"}'), ("permit-pty", "")))
    assert wider(other, GRANT, NOW) == "extensions"


def test_the_same_metadata_is_the_same_ascii_bytes_however_it_was_written():
    assert canonical_json({"team": "bläu", "app": "shop"}) == canonical_json({"app": "shop", "team": "bläu"})
    assert canonical_json({"team": "bläu", "app": "shop"}) == '{"app":"shop","team":"bl\\u00e4u"}'


@pytest.mark.parametrize("now", [NOW - 1, GRANT.ends_at, GRANT.ends_at + DAY])
def test_only_a_running_grant_is_shaped(now):
    with pytest.raises(Conflict):
        shape(GRANT, WEB1, public("laptop"), public("user"), now)


def test_an_ended_grant_is_not_shaped():
    with pytest.raises(Conflict):
        shape(end(GRANT, "over", NOW + 1), WEB1, public("laptop"), public("user"), NOW + 2)


def test_a_grant_in_its_last_second_gives_nothing_rather_than_too_much():
    with pytest.raises(Conflict, match="within this second"):
        shape(replace(GRANT, ends_at=NOW + SECOND - 1), WEB1, public("laptop"), public("user"), NOW)


def test_another_login_on_a_host_of_the_grant_is_refused():
    with pytest.raises(Denied, match="does not name postgres on web1"):
        shape(GRANT, Target("web1", "postgres"), public("laptop"), public("user"), NOW)


def test_the_authority_does_not_certify_itself():
    with pytest.raises(FormatError, match="its own authority"):
        shape(GRANT, WEB1, public("user"), public("user"), NOW)


def test_a_host_gets_its_own_two_names_and_an_end():
    spec = shape_host("default", "web1", "web1.default.jitgate", public("sshd"), public("host"), NOW)
    assert spec.principals == ("web1.default.jitgate", "web1")
    assert spec.type is CertType.HOST
    assert spec.valid_before_s == (NOW + 90 * DAY) // SECOND
    assert broken(spec.body(7), RULES.ceilings[1], NOW) == []


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("localhost", "localhost.default.jitgate"),
        ("127.0.0.1", "127.0.0.1.default.jitgate"),
        ("127.1", "127.1.default.jitgate"),
        ("2130706433", "2130706433.default.jitgate"),
        ("web.0x7f", "web.0x7f.default.jitgate"),
        ("web1", "db1.default.jitgate"),
        ("web1", "web1"),
        ("web1", "web1.other.jitgate"),
        ("*", "*.default.jitgate"),
    ],
)
def test_a_host_gets_no_name_of_somebody_else(name, alias):
    with pytest.raises(BadInput):
        shape_host("default", name, alias, public("sshd"), public("host"), NOW)


@pytest.mark.parametrize("days", [1, 398])
def test_a_host_certificate_lives_as_long_as_was_said(days):
    spec = shape_host("default", "web1", "web1.default.jitgate", public("sshd"), public("host"), NOW, days=days)
    assert spec.valid_before_s == (NOW + days * DAY) // SECOND
    assert spec.valid_after_s == NOW // SECOND - BACKDATE_S


@pytest.mark.parametrize("days", [0, -1, 399, 87_600])
def test_a_host_certificate_ends(days):
    with pytest.raises(BadInput):
        shape_host("default", "web1", "web1.default.jitgate", public("sshd"), public("host"), NOW, days=days)
