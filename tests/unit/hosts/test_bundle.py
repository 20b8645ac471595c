"""The bundle: what a host takes, and what a gateway or an old copy cannot make it take."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ca.samples import NOW, public
from tests.unit.ca.test_trust import INSTALLATION, JSON, sealed

from jitgate.ca.envelope import Envelope
from jitgate.core.clock import DAY
from jitgate.core.errors import BadInput
from jitgate.core.fields import canonical
from jitgate.hosts.bundle import (
    DOMAIN,
    Bundle,
    BundlePin,
    BundleVersion,
    EndedSession,
    bundle_payload,
    check_krl,
    is_expired,
    krl_digest,
    open_bundle,
    take_bundle,
)

KRL = b"SSHKRL\n\0 and so on"
HOST_ID = "01HF7YAT00TEST00000000000H"
ID = "01HF7YAT00TEST00000000000A"
BUNDLE = Bundle(
    installation=INSTALLATION,
    realm="default",
    host_id=HOST_ID,
    host="web1",
    version=(0, 41, NOW),
    made_at=NOW,
    expires_at=NOW + DAY,
    krl=krl_digest(KRL),
    ended_grants=(ID,),
    ended_sessions=(EndedSession(ID, 40022),),
    locked=(HOST_ID,),
)
PIN = BundlePin(INSTALLATION, "default", HOST_ID, "web1", public("online"))


def bundle_of(bundle: Bundle = BUNDLE, key: str = "online") -> Envelope:
    return sealed(bundle_payload(bundle), key, DOMAIN)


def refused(envelope: Envelope, have: BundleVersion | None = None, pin: BundlePin = PIN) -> str:
    with pytest.raises(BadInput) as caught:
        open_bundle(envelope, pin, have)
    return caught.value.code


def test_a_host_takes_its_newer_bundle():
    assert open_bundle(bundle_of(), PIN, None) == BUNDLE
    for older in ((0, 41, NOW - 1), (0, 40, NOW + DAY)):
        assert open_bundle(bundle_of(), PIN, older) == BUNDLE


def test_after_a_restore_the_new_epoch_is_taken_and_the_old_ones_bundles_are_not():
    restored = dataclasses.replace(BUNDLE, version=(1, 3, NOW))
    assert open_bundle(bundle_of(restored), PIN, BUNDLE.version) == restored
    late = dataclasses.replace(BUNDLE, version=(0, 10**9, NOW + 9), made_at=NOW + 9)
    assert refused(bundle_of(late), restored.version) == "old_version"


def test_a_replayed_bundle_is_refused():
    assert refused(bundle_of(), (0, 42, NOW)) == "old_version"
    assert refused(bundle_of(), (0, 41, NOW + 1)) == "old_version"
    assert refused(bundle_of(), BUNDLE.version) == "same_version"


@pytest.mark.parametrize("key", ["root", "host ca", "somebody"])
def test_no_other_key_makes_a_bundle(key):
    assert refused(bundle_of(key=key)) == "wrong_key"


def test_a_trust_list_of_the_online_key_is_no_bundle():
    assert refused(sealed(bundle_payload(BUNDLE), "online", b"jitgate-trust-v1\n")) == "signature"


def test_a_bundle_for_another_host_is_refused():
    assert refused(bundle_of(dataclasses.replace(BUNDLE, host="web2"))) == "other_host"
    assert refused(bundle_of(dataclasses.replace(BUNDLE, host_id=ID))) == "other_host"
    assert refused(bundle_of(dataclasses.replace(BUNDLE, realm="other"))) == "other_realm"
    assert refused(bundle_of(dataclasses.replace(BUNDLE, installation=ID))) == "other_installation"


@pytest.mark.parametrize("name", ["user", "host_ca", "online", "scopes", "principals", "facts", "logins"])
def test_a_bundle_has_no_place_for_a_key_or_a_scope(name):
    said = {**json.loads(bundle_payload(BUNDLE)), name: [public("mine").line()]}
    assert refused(sealed(canonical(said), "online", DOMAIN)) == "malformed"


def test_an_expired_bundle_is_an_alarm_and_is_still_obeyed():
    assert not is_expired(BUNDLE, NOW + DAY - 1)
    assert is_expired(BUNDLE, NOW + DAY)
    assert open_bundle(bundle_of(), PIN, None).krl == krl_digest(KRL)


def test_the_krl_is_the_one_that_was_signed():
    check_krl(BUNDLE, KRL)
    with pytest.raises(BadInput) as caught:
        check_krl(BUNDLE, b"")
    assert caught.value.code == "other_krl"


NAMES = st.sampled_from(sorted(json.loads(bundle_payload(BUNDLE))))


@settings(max_examples=300)
@given(changes=st.dictionaries(NAMES, JSON, max_size=3))
def test_whatever_is_taken_is_written_again_the_same(changes):
    value = {**json.loads(bundle_payload(BUNDLE)), **changes}
    try:
        found = take_bundle(value)
    except BadInput:
        return
    assert bundle_payload(found) == canonical(value)
