"""The interception key signs names that no host has, and no other key signs those: a gateway that somebody took over
cannot pose as a host to people who connect to hosts."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ca.samples import GRANT, NOW, ORIGIN, WEB1, MemorySigner, finish, private, public

from jitgate.ca.ceilings import broken
from jitgate.ca.issue import issue
from jitgate.ca.model import SignerRefusal, SignRequest
from jitgate.ca.realms import CaKind
from jitgate.ca.rules import HostCeiling, InterceptionCeiling, UserCeiling, default_rules, read_rules, realm_tables
from jitgate.ca.shape import shape, shape_host, shape_interception
from jitgate.core.errors import BadInput
from jitgate.ssh.cert import CertificateBody, to_be_signed

TEXT = default_rules(ORIGIN, "default", user_key="user", host_key="host", log_key="log", interception_key="rec")
EU = {CaKind.USER: "eu.user", CaKind.HOST: "eu.host", CaKind.INTERCEPTION: "eu.rec"}
RULES = read_rules(TEXT + realm_tables("eu", EU))
CEILINGS = {(type(each), each.realm): each for each in RULES.ceilings}
REC = CEILINGS[InterceptionCeiling, "default"]
HOST = CEILINGS[HostCeiling, "default"]
USER = CEILINGS[UserCeiling, "default"]

names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True).filter(
    lambda name: ".." not in name and name != "localhost"
)


def rec(name: str = "web1", realm: str = "default", **changed: object) -> CertificateBody:
    spec = shape_interception(realm, name, public("gateway"), public("rec"), NOW)
    return replace(spec.body(1), **changed)  # type: ignore[arg-type]  # passed on


def named(body: CertificateBody, ceiling: object) -> set[str]:
    return {check.name for check in broken(body, ceiling, NOW)}  # type: ignore[arg-type]  # one of the ceilings


def test_what_the_gateway_shows_is_allowed_to_its_key_alone():
    body = rec()
    assert body.principals == ("web1.rec", "web1.default.jitgate.rec")
    assert named(body, REC) == set()
    assert named(body, HOST) == {"key_id"}
    assert "kind" in named(body, USER)
    assert "key_id" in named(body, CEILINGS[InterceptionCeiling, "eu"])


@pytest.mark.parametrize(
    "principals",
    [
        ("web1",),
        ("web1.default.jitgate",),
        ("web1.rec", "web1"),
        ("web2.rec",),
        ("web1.eu.jitgate.rec",),
        ("web1.default.jitgate.rec", "web1.default.jitgate"),
    ],
)
def test_it_never_signs_a_hosts_own_name_or_that_of_another(principals: tuple[str, ...]):
    assert "host_name" in named(rec(principals=principals), REC)


def test_the_host_key_never_signs_a_name_of_the_gateway():
    for name in ("web1.rec", "web1.eu.jitgate", "web1.default.jitgate.rec"):
        with pytest.raises(BadInput, match="ends as no host's may"):
            shape_host("default", name, f"{name}.default.jitgate", public("h"), public("host"), NOW)
        body = shape_host("default", "web1", "web1.default.jitgate", public("h"), public("host"), NOW).body(1)
        posing = replace(body, key_id=f"jitgate host={name} realm=default", principals=(name,))
        assert named(posing, HOST) == {"host_name"}
        assert named(replace(posing, principals=(f"{name}.default.jitgate",)), HOST) == {"host_name"}


@settings(max_examples=200)
@given(names, names)
def test_no_name_is_both_a_hosts_and_the_gateways(host: str, other: str):
    """Whatever two hosts are called: what one key signs for the one, the other key never signs for the other."""
    try:
        theirs = shape_host("default", host, f"{host}.default.jitgate", public("h"), public("host"), NOW).principals
        ours = shape_interception("default", other, public("gateway"), public("rec"), NOW).principals
    except BadInput:
        return
    assert not {*theirs} & {*ours}


def test_its_limits_hold():
    assert named(rec(valid_before=NOW // 1_000_000 + 86_401), REC) == {"lifetime"}
    assert named(rec(extensions=(("own@example.com", "x"),)), REC) == {"extension"}
    person = shape(GRANT, WEB1, public("laptop"), public("rec"), NOW).body(1)
    assert {"kind", "key_id"} <= named(person, REC)


@pytest.mark.parametrize("pattern", ["*.default.jitgate", "*.rec", "*", "*.example.com", "web1.rec"])
def test_a_table_cannot_have_it_sign_other_names(pattern: str):
    with pytest.raises(BadInput, match="pattern"):
        read_rules(TEXT.replace("*.default.jitgate.rec", pattern))


def test_no_realms_key_signs_for_another_realm():
    """Each principal of one realm, asked for under each key of the other, and under the other's name."""
    signer = MemorySigner(RULES)
    specs = {
        CaKind.USER: shape(GRANT, WEB1, public("laptop"), public("user"), NOW),
        CaKind.HOST: shape_host("default", "web1", "web1.default.jitgate", public("h"), public("host"), NOW),
        CaKind.INTERCEPTION: shape_interception("default", "web1", public("gateway"), public("rec"), NOW),
    }
    for number, (kind, spec) in enumerate(specs.items(), 1):
        assert finish(issue(spec, number, bytes(32), signer)).certificate.body.ca == spec.ca
        ours = to_be_signed(spec.body(1000 + number), bytes(32))
        theirs = to_be_signed(replace(spec, ca=public(EU[kind])).body(1000 + number), bytes(32))
        asked = [SignRequest("eu", ours), SignRequest("default", theirs), SignRequest("eu", theirs)]
        by_name, by_key, by_both = finish(signer.sign(asked))
        for answer in (by_name, by_key):
            assert isinstance(answer, SignerRefusal)
            assert answer.code == "authority"
        if (
            kind is CaKind.USER
        ):  # its principal names no realm: what keeps it apart is that no host of default trusts it
            assert isinstance(by_both, bytes)
        else:
            assert isinstance(by_both, SignerRefusal)
            assert by_both.code == "key_id"
    assert private("rec").public != private("eu.rec").public
