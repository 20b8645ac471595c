"""The signer's own no to what a service asks it to tell hosts: the service here is one that somebody took over."""

from dataclasses import replace

import pytest
from tests.unit.ca.samples import NOW, MemorySigner, finish, public
from tests.unit.ca.test_trust import TRUST
from tests.unit.hosts.test_bundle import BUNDLE

from jitgate.ca import trust
from jitgate.ca.agent_keys import agents_text, read_agent_keys
from jitgate.ca.envelope import make_envelope, open_envelope
from jitgate.ca.model import SignerRefusal
from jitgate.ca.rules import default_rules, read_rules
from jitgate.ca.trust import TrustList, trust_payload
from jitgate.core.clock import DAY, HOUR
from jitgate.core.errors import BadInput
from jitgate.hosts import bundle
from jitgate.hosts.bundle import bundle_payload

RULES_TEXT = default_rules("a/log", "default", user_key="user", host_key="host", log_key="log")
TEXT = RULES_TEXT + agents_text("root", "online")
HONEST = replace(TRUST, user=(public("user"),), host=(public("host"),))


def sign(wanted: TrustList, signer: MemorySigner | None = None) -> bytes | SignerRefusal:
    return finish((signer or MemorySigner()).trust(trust_payload(wanted)))


def code(found: bytes | SignerRefusal) -> str:
    assert isinstance(found, SignerRefusal), "it was signed"
    return found.code


def test_a_list_of_its_own_keys_is_signed_by_the_root_key():
    found = sign(HONEST)
    assert isinstance(found, bytes)
    envelope = make_envelope(trust.DOMAIN, trust_payload(HONEST), public("root"), found)
    assert open_envelope(envelope, trust.DOMAIN, public("root"))


def test_a_service_that_was_taken_over_cannot_make_hosts_trust_a_ca_key_of_its_own():
    mallory = public("mallory's ca")
    assert code(sign(replace(HONEST, user=(*HONEST.user, mallory)))) == "foreign_key"
    assert code(sign(replace(HONEST, host=(mallory,)))) == "foreign_key"
    assert code(sign(replace(HONEST, interception=(mallory,)))) == "foreign_key"


def test_a_key_is_trusted_only_for_what_it_is_for():
    assert code(sign(replace(HONEST, user=(public("host"),), host=()))) == "foreign_key"
    assert code(sign(replace(HONEST, user=(), host=(public("user"),)))) == "foreign_key"
    assert code(sign(replace(HONEST, realm="other"))) == "foreign_key"
    assert code(sign(replace(HONEST, user=(public("log"),)))) == "foreign_key"
    assert code(sign(replace(HONEST, user=(public("root"),)))) == "own_key"


def test_a_service_cannot_name_an_online_key_of_its_own():
    assert code(sign(replace(HONEST, online=public("mallory's online key")))) == "online_key"


def test_a_list_is_made_now_and_never_older_than_the_last():
    signer = MemorySigner()
    assert code(sign(replace(HONEST, made_at=NOW - HOUR), signer)) == "clock"
    assert isinstance(sign(HONEST, signer), bytes)
    assert isinstance(sign(HONEST, signer), bytes)
    assert code(sign(replace(HONEST, version=(0, 6)), signer)) == "old_version"
    assert isinstance(sign(replace(HONEST, version=(1, 0)), signer), bytes)


def test_a_key_that_is_kept_elsewhere_may_be_trusted_when_the_signers_file_says_so():
    backup = public("backup ca")
    text = TEXT.replace("[[user]]\n", f'[[user]]\ntrusted = ["{backup.line()}"]\n')
    signer = MemorySigner(read_rules(text))
    assert isinstance(sign(replace(HONEST, user=(public("user"), backup)), signer), bytes)
    assert code(sign(replace(HONEST, host=(public("host"), backup)), signer)) == "foreign_key"


def test_payloads_that_are_something_else_are_refused():
    signer = MemorySigner()
    for payload in (b"", b"{}", trust_payload(HONEST) + b" ", bundle_payload(BUNDLE), b"[" * 5000):
        assert code(finish(signer.trust(payload))) == "malformed"
    for payload in (b"", b"{}", bundle_payload(BUNDLE) + b" ", trust_payload(HONEST), b"[" * 5000):
        assert code(finish(signer.bundles([payload]))[0]) == "malformed"


def test_bundles_are_signed_by_the_online_key_each_by_itself():
    signer = MemorySigner()
    late = replace(BUNDLE, expires_at=NOW + 8 * DAY)
    old = replace(BUNDLE, made_at=NOW - DAY, version=(0, 1, NOW - DAY))
    good, *bad = finish(signer.bundles([bundle_payload(each) for each in (BUNDLE, late, old)]))
    assert isinstance(good, bytes)
    make_envelope(bundle.DOMAIN, bundle_payload(BUNDLE), public("online"), good)
    assert [code(each) for each in bad] == ["clock", "clock"]


def test_bundles_have_a_rate():
    signer = MemorySigner(
        read_rules(TEXT.replace("burst = 100000\nrate_per_minute = 60000", "burst = 2\nrate_per_minute = 1"))
    )
    found = finish(signer.bundles([bundle_payload(BUNDLE)] * 3))
    assert [isinstance(each, bytes) for each in found] == [True, True, False]
    assert code(found[2]) == "rate"


def test_without_the_two_keys_nothing_is_said_to_hosts():
    signer = MemorySigner(read_rules(RULES_TEXT))
    assert code(sign(HONEST, signer)) == "no_agents"
    assert code(finish(signer.bundles([bundle_payload(BUNDLE)]))[0]) == "no_agents"
    assert finish(signer.keys()).agents is None


def test_the_two_keys_certify_nothing_and_are_not_certified():
    held = finish(MemorySigner().keys())
    assert held.agents
    assert not {held.agents.root, held.agents.online} & {each.key for each in held.authorities}


@pytest.mark.parametrize(
    "content",
    [
        {"root": {"key": "root"}},
        {"online": {"key": "online", "rate_per_minute": 1, "burst": 1}},
        {"root": {"key": "../root"}, "online": {"key": "online", "rate_per_minute": 1, "burst": 1}},
        {"root": {"key": "root"}, "online": {"key": "online", "rate_per_minute": 0, "burst": 1}},
        {"root": {"key": "root"}, "online": {"key": "online", "burst": 1}},
        {"root": {"key": "root", "more": 1}, "online": {"key": "online", "rate_per_minute": 1, "burst": 1}},
        {"root": [], "online": []},
    ],
)
def test_half_a_table_is_no_table(content):
    with pytest.raises(BadInput):
        read_agent_keys(content)


def test_one_key_for_both_is_refused():
    with pytest.raises(BadInput):
        read_rules(RULES_TEXT + agents_text("root", "root"))
