"""The signer's own rules, each broken on purpose by somebody who holds the service."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ca.samples import GRANT, ID, NOW, RULES, WEB1, public

from jitgate.ca.ceilings import BEGIN_EARLIEST_S, BEGIN_LATEST_S, broken, next_slot
from jitgate.ca.rules import Ceiling, HostCeiling, UserCeiling
from jitgate.ca.shape import shape, shape_host
from jitgate.core.clock import MINUTE, SECOND
from jitgate.ssh.cert import CertificateBody, CertType
from jitgate.ssh.pubkey import Algorithm

USER, HOST = RULES.ceilings
NOW_S = NOW // SECOND
PERSON = shape(GRANT, WEB1, public("laptop"), public("user"), NOW).body(7)
SSHD = shape_host("default", "web1", "web1.default.jitgate", public("sshd"), public("host"), NOW).body(7)
assert isinstance(USER, UserCeiling)
assert isinstance(HOST, HostCeiling)
NARROW = replace(USER, logins=frozenset({"ubuntu", "root"}), denied_logins=frozenset({"root"}), max_principals=2)


def named(body: CertificateBody, ceiling: Ceiling) -> set[str]:
    return {check.name for check in broken(body, ceiling, NOW)}


def test_what_the_service_shapes_is_allowed():
    assert broken(PERSON, USER, NOW) == []
    assert broken(PERSON, NARROW, NOW) == []
    assert broken(SSHD, HOST, NOW) == []


def test_a_ceiling_itself_is_allowed():
    for body in (
        replace(PERSON, valid_after=NOW_S - BEGIN_EARLIEST_S),
        replace(PERSON, valid_after=NOW_S + BEGIN_LATEST_S),
        replace(PERSON, valid_before=NOW_S + NARROW.max_lifetime_s),
        replace(PERSON, valid_before=NOW_S + BEGIN_LATEST_S + 1),
        replace(PERSON, principals=("ubuntu@host:web1", "ubuntu@host:web2")),
    ):
        assert broken(body, NARROW, NOW) == []
    assert (BEGIN_EARLIEST_S, BEGIN_LATEST_S) == (120, 5)


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ("begin", replace(PERSON, valid_after=NOW_S + BEGIN_LATEST_S + 1)),
        ("begin", replace(PERSON, valid_after=NOW_S - BEGIN_EARLIEST_S - 1)),
        ("lifetime", replace(PERSON, valid_before=NOW_S + NARROW.max_lifetime_s + 1)),
        ("lifetime", replace(PERSON, valid_before=NOW_S)),
        ("key_id", replace(PERSON, key_id="alice")),
        ("key_id", replace(PERSON, key_id=f"{ID} person=alice")),
        ("key_id", replace(PERSON, key_id=f"jitgate grant={ID} person=")),
        ("key_id", replace(PERSON, key_id=f"jitgate grant={ID[:-1]} person=alice")),
        ("key_id", replace(PERSON, key_id=f"jitgate grant={ID} person=alice person=bob")),
        ("key_id", replace(PERSON, key_id=f"jitgate grant={ID} person=alice; rm")),
        ("principals", replace(PERSON, principals=tuple(f"ubuntu@host:web{n}" for n in range(3)))),
        ("scope", replace(PERSON, principals=("ubuntu",))),
        ("scope", replace(PERSON, principals=("ubuntu@host",))),
        ("scope", replace(PERSON, principals=("ubuntu@host:",))),
        ("scope", replace(PERSON, principals=("ubuntu@env:prod",))),
        ("scope", replace(PERSON, principals=("ubuntu@host:web1@host:web2",))),
        ("scope", replace(PERSON, principals=("ubuntu@host:web1:x",))),
        ("login", replace(PERSON, principals=("ubuntu@host:web1", "deploy@host:web1"))),
        ("scope", replace(PERSON, principals=("Ubuntu@host:web1",))),
        ("scope", replace(PERSON, principals=("7up@host:web1",))),
        ("login", replace(PERSON, principals=("root@host:web1",))),
        ("extension", replace(PERSON, extensions=(("evil@example.com", "x"),))),
        ("critical_option", replace(PERSON, critical_options=(("force-command", "id"),))),
    ],
)
def test_each_ceiling_on_persons_holds(rule: str, body: CertificateBody):
    assert named(body, replace(NARROW, critical_options=frozenset({"source-address"}))) == {rule}


def test_each_ceiling_on_hosts_holds():
    assert named(replace(SSHD, principals=("db1.default.jitgate", "web1")), HOST) == {"host_name"}
    assert named(replace(SSHD, principals=("web1.other.jitgate",)), HOST) == {"host_name"}
    assert named(replace(SSHD, principals=("db1",)), HOST) == {"host_name"}
    assert named(replace(SSHD, principals=("10.0.0.7",), key_id="jitgate host=10.0.0.7 realm=default"), HOST) == {
        "host_name"
    }
    assert named(replace(SSHD, key_id="jitgate host=web1 realm=other"), HOST) == {"key_id"}
    assert named(replace(SSHD, key_id="web1"), HOST) == {"key_id"}
    assert named(replace(SSHD, key_id="web1 realm=default"), HOST) == {"key_id"}
    assert named(replace(SSHD, key_id="jitgate host=Web1 realm=default", principals=("Web1",)), HOST) == {"key_id"}
    assert named(replace(SSHD, valid_before=NOW_S + HOST.max_lifetime_s + 1), HOST) == {"lifetime"}
    assert named(replace(SSHD, extensions=(("metadata@jitgate", "{}"),)), HOST) == {"extension"}


def test_a_key_signs_only_its_kind():
    assert "kind" in named(replace(SSHD, ca=public("user")), USER)
    assert "kind" in named(replace(PERSON, ca=public("host"), critical_options=(), extensions=()), HOST)
    assert "kind" in named(replace(SSHD, type=CertType.USER), HOST)


def test_a_key_type_that_is_not_listed_is_refused():
    assert named(PERSON, replace(USER, key_algorithms=frozenset({Algorithm.RSA}))) == {"key_algorithm"}


def _allowed(ceiling: Ceiling, ticks: list[int]) -> int:
    free_at, count = 0, 0
    for tick in ticks:
        found = next_slot(free_at, ceiling, tick)
        if found is not None:
            free_at, count = found, count + 1
    return count


@given(st.integers(1, 50), st.integers(1, 600), st.lists(st.integers(0, 3 * MINUTE), max_size=200).map(sorted))
def test_no_pattern_of_asking_gets_more_than_burst_and_rate(burst, rate, ticks):
    span = ticks[-1] - ticks[0] if ticks else 0
    most = burst + 1 + span * rate // MINUTE
    assert _allowed(replace(USER, burst=burst, rate_per_minute=rate), ticks) <= most


def test_the_rate_gives_the_burst_at_once_and_then_the_rate():
    ceiling = replace(USER, burst=10, rate_per_minute=60)
    assert _allowed(ceiling, [5] * 100) == 10
    assert _allowed(ceiling, [5] * 100 + [5 + 3 * SECOND] * 100) == 13
