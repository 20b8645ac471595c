"""Signing roles as Vault has them, and what they give: never more than they say, never nobody's certificate."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ca.samples import ID, NOW, public

from jitgate.core.errors import BadInput, Denied
from jitgate.grants.plain import open_plain_grant
from jitgate.identity.model import Factor, Kind, VerifiedIdentity
from jitgate.policy.vault_role import FIELDS, as_fields, read_role, seconds
from jitgate.policy.vault_sign import PlainAsk, decide_plain, key_bits, read_ask
from jitgate.ssh.private import SoftwareKey

ARTICLE = {
    "allow_user_certificates": True,
    "allowed_users": "*",
    "default_extensions": {"permit-pty": ""},
    "key_type": "ca",
    "default_user": "ubuntu",
    "ttl": "4h",
}
KEY = public("laptop")
WHO = VerifiedIdentity(ID, "testuser@userpass", Kind.PERSON, "vault:x", "testuser", (), False, ((Factor.VAULT, NOW),))


def role(**changes: object):
    return read_role({**ARTICLE, **changes})[0]


def decide(asked: dict[str, object] | None = None, **changes: object):
    ask = read_ask({"public_key": KEY.line(), **(asked or {})})
    return decide_plain(WHO, ask, role(**changes), realm="vault-ssh", name="ops", digest="0" * 64, now=NOW)


def test_the_articles_role_is_taken_with_a_warning():
    found, warnings = read_role(ARTICLE)
    assert found.allowed_users is None
    assert (found.default_user, found.ttl_s) == ("ubuntu", 4 * 3600)
    assert any("any login, root among them" in each for each in warnings)
    assert as_fields(found)["ttl"] == 14400
    assert set(as_fields(found)) <= FIELDS


def test_what_the_role_gives_when_nothing_is_asked():
    permit = decide()
    assert (permit.logins, permit.ttl_s, permit.extensions, permit.options) == (("ubuntu",), 14400, ("permit-pty",), ())


@pytest.mark.parametrize("said", [{}, {"valid_principals": ""}, {"valid_principals": " , "}, {"valid_principals": []}])
def test_nobody_gets_a_certificate_for_nobody(said: dict[str, object]):
    """CVE-2024-7594: none asked for and no default_user, and `allowed_users` of any kind."""
    for users in ("*", "", "ubuntu", "ubuntu,*"):
        with pytest.raises(Denied) as caught:
            decide(said, default_user="", allowed_users=users)
        assert caught.value.code == "vault_principals"


@pytest.mark.parametrize(
    "principals",
    ["*", "ubuntu,*", "ubuntu@host:web1", "Ubuntu", "a b", "root;x", "a/b", "ubuntu\n", "-oX", "x" * 33],
)
def test_what_is_no_plain_login_is_refused(principals: str):
    """GHSA-59w7-v8rr-pr4p: commas, stars and slashes never become a principal."""
    with pytest.raises(BadInput):
        decide({"valid_principals": principals})


def test_a_comma_in_an_item_of_a_list_is_not_split_again():
    with pytest.raises(BadInput):
        decide({"valid_principals": ["ubuntu,root"]})
    with pytest.raises(BadInput):
        role(allowed_users=["ubuntu,root"])


def test_only_the_roles_logins():
    assert decide({"valid_principals": "jenkins"}, allowed_users="jenkins,gitlab-runner").logins == ("jenkins",)
    assert decide({}, allowed_users="jenkins").logins == ("ubuntu",)  # the default one is one of them
    for asked in ("root", "jenkins,root"):
        with pytest.raises(Denied):
            decide({"valid_principals": asked}, allowed_users="jenkins")
    with pytest.raises(Denied):
        decide({"valid_principals": "jenkins"}, allowed_users="")


@pytest.mark.parametrize(
    ("ttl", "max_ttl", "asked", "given"),
    [
        ("4h", 0, None, 14400),
        ("4h", 0, "1h", 3600),
        ("4h", "8h", "8h", 28800),
        ("", 0, None, 900),
        ("", "5m", None, 300),
        ("", "1h", "30m", 1800),
    ],
)
def test_times(ttl: object, max_ttl: object, asked: object, given: int):
    assert decide({"ttl": asked} if asked else {}, ttl=ttl, max_ttl=max_ttl).ttl_s == given


def test_more_time_than_the_role_gives_is_refused_not_cut():
    for asked, most in (("5h", 0), ("9h", "8h")):
        with pytest.raises(Denied) as caught:
            decide({"ttl": asked}, max_ttl=most)
        assert caught.value.code == "vault_ttl"


def test_a_clients_options_do_not_replace_the_roles():
    own = {"force-command": "/bin/true", "source-address": "192.0.2.0/24"}
    options = {"default_critical_options": own, "allowed_critical_options": "verify-required"}
    assert decide({}, **options).options == tuple(sorted(own.items()))
    assert decide({"critical_options": own}, **options).options == tuple(sorted(own.items()))
    for sent in (
        {"force-command": "/bin/sh"},
        {"force-command": "/bin/true"},
        {**own, "source-address": "0.0.0.0/0"},
    ):
        with pytest.raises(Denied) as caught:
            decide({"critical_options": sent}, **options)
        assert caught.value.code == "vault_options"
        assert "replace the role's" in caught.value.what


def test_an_empty_list_of_allowed_options_allows_none():
    with pytest.raises(Denied):
        decide({"critical_options": {"force-command": "x"}})
    assert decide({"critical_options": {"force-command": "x"}}, allowed_critical_options="force-command").options
    with pytest.raises(Denied):
        decide({"extensions": {"permit-agent-forwarding": ""}})
    assert decide({"extensions": {"permit-agent-forwarding": ""}}, allowed_extensions="*").extensions == (
        "permit-agent-forwarding",
    )


def test_a_client_names_no_key_id_and_no_host():
    for name, value in (("key_id", "x"), ("cert_type", "host")):
        with pytest.raises(Denied):
            decide({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("valid_principal", "root"), ("public_key", ""), ("public_key", "ssh-rsa AAAA"), ("ttl", []), ("extensions", 1)],
)
def test_a_request_that_is_malformed(name: str, value: object):
    with pytest.raises(BadInput):
        decide({name: value})


def test_key_lengths():
    big = SoftwareKey(rsa.generate_private_key(65537, 3072)).public
    curve = SoftwareKey(ec.generate_private_key(ec.SECP256R1())).public
    assert (key_bits(big), key_bits(curve), key_bits(KEY)) == (3072, 256, 0)
    ask = PlainAsk(big, ("ubuntu",))
    for lengths, taken in (({"rsa": [3072]}, True), ({"rsa": 4096}, False), ({"ed25519": 0}, False), ({}, True)):
        wanted = role(allowed_user_key_lengths=lengths)
        if taken:
            decide_plain(WHO, ask, wanted, realm="vault-ssh", name="ops", digest="0", now=NOW)
        else:
            with pytest.raises(Denied):
                decide_plain(WHO, ask, wanted, realm="vault-ssh", name="ops", digest="0", now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"key_type": "otp"},
        {"key_type": ""},
        {"allow_user_certificates": False},
        {"allow_host_certificates": True},
        {"allow_empty_principals": True},
        {"allow_user_key_ids": "true"},
        {"allowed_users_template": True},
        {"default_user_template": True},
        {"allowed_domains": "example.com"},
        {"allow_subdomains": True},
        {"issuer_ref": "other"},
        {"allowed_userz": "ubuntu"},
        {"allowed_users": "{{identity.entity.name}}"},
        {"default_user": "Ubuntu"},
        {"default_user": "a,b"},
        {"default_extensions": {"login@github.com": "x"}},
        {"default_extensions": {"permit-pty": "x"}},
        {"default_extensions": "permit-pty"},
        {"default_critical_options": {"source-address": "192.0.2.1/24"}},
        {"default_critical_options": {"no-such-option": "x"}},
        {"allowed_extensions": "permit-everything"},
        {"ttl": "-1"},
        {"ttl": "1y"},
        {"ttl": True},
        {"ttl": "10000000h"},
        {"ttl": "8h", "max_ttl": "1h"},
        {"not_before_duration": "61s"},
        {"allowed_user_key_lengths": {"rsa": "big"}},
    ],
)
def test_what_a_role_cannot_have_here_is_refused(changes: dict[str, object]):
    with pytest.raises(BadInput):
        role(**changes)


def test_durations():
    assert [seconds(each) for each in (0, 60, "60", "", "1h30m", "7d", "90s")] == [0, 60, 60, 0, 5400, 604800, 90]
    wrongs: list[object] = ["1h ", "h", "1.5h", "\uff11h", None, [], "1m1"]
    for wrong in wrongs:
        with pytest.raises(BadInput):
            seconds(wrong)


WORDS = st.sampled_from(["ubuntu", "deploy", "root", "*", "", "a,b", "UBUNTU", "x@host:y"])


@given(
    users=st.lists(WORDS, max_size=3).map(",".join),
    default=st.sampled_from(["", "ubuntu", "root"]),
    asked=st.one_of(st.lists(WORDS, max_size=3).map(",".join), st.lists(WORDS, max_size=3)),
    ttl=st.sampled_from([0, "1m", "4h", "100h"]),
)
@settings(max_examples=300)
def test_a_grant_is_never_wider_than_its_role(users: str, default: str, asked: object, ttl: object):
    try:
        given_role = role(allowed_users=users, default_user=default)
        ask = replace(read_ask({"public_key": KEY.line(), "valid_principals": asked, "ttl": ttl}))
        permit = decide_plain(WHO, ask, given_role, realm="vault-ssh", name="ops", digest="0" * 64, now=NOW)
    except (BadInput, Denied):
        return
    grant = open_plain_grant(permit, "", NOW, lambda: ID)
    logins = {target.login for target in grant.targets}
    assert logins
    assert given_role.allowed_users is None or logins <= {*given_role.allowed_users, default}
    assert grant.ends_at - grant.opened_at <= 14400 * 1_000_000
    assert all(login.isascii() and "," not in login and "@" not in login and login != "*" for login in logins)
