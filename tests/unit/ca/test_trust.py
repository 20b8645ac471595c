"""The trust list: what a host takes, and what nobody but the root key can make it take."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ca.samples import NOW, private, public

from jitgate.ca.envelope import Envelope, make_envelope, signed_message, take_envelope
from jitgate.ca.trust import (
    DOMAIN,
    PAYLOAD_MAX,
    TrustList,
    TrustPin,
    open_trust,
    pinned_root,
    take_trust,
    trust_payload,
)
from jitgate.core.errors import BadInput
from jitgate.core.fields import canonical, read_json
from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.wire import Reader

INSTALLATION = "01HF7YAT00TEST00000000000J"
TRUST = TrustList(
    installation=INSTALLATION,
    realm="default",
    version=(0, 7),
    made_at=NOW,
    user=(public("user ca"), public("next user ca")),
    host=(public("host ca"),),
    interception=(),
    online=public("online"),
)
PIN = TrustPin(INSTALLATION, "default", public("root"))


def raw(key: SoftwareKey, data: bytes) -> bytes:
    reader = Reader(key.sign(data))
    reader.string()
    return reader.string()


def sealed(payload: bytes, key: str = "root", domain: bytes = DOMAIN) -> Envelope:
    return make_envelope(domain, payload, public(key), raw(private(key), signed_message(domain, payload)))


def refused(envelope: Envelope, have: tuple[int, int] | None = None, pin: TrustPin = PIN) -> str:
    with pytest.raises(BadInput) as caught:
        open_trust(envelope, pin, have)
    return caught.value.code


def test_a_host_takes_the_list_that_the_root_key_signed():
    envelope = sealed(trust_payload(TRUST))
    assert open_trust(envelope, PIN, None) == TRUST
    assert open_trust(take_envelope(envelope.json(), PAYLOAD_MAX), PIN, (0, 6)) == TRUST
    assert open_trust(sealed(trust_payload(dataclasses.replace(TRUST, version=(1, 1)))), PIN, (0, 7)).version == (1, 1)


@pytest.mark.parametrize("key", ["online", "user ca", "somebody"])
def test_no_other_key_makes_a_trust_list(key):
    assert refused(sealed(trust_payload(TRUST), key)) == "wrong_key"


def test_a_bundle_of_the_root_key_is_no_trust_list():
    other = sealed(trust_payload(TRUST), domain=b"jitgate-bundle-v1\n")
    assert refused(other) == "signature"


def test_a_list_for_others_or_an_older_one_is_refused():
    envelope = sealed(trust_payload(TRUST))
    assert refused(envelope, pin=dataclasses.replace(PIN, realm="other")) == "other_realm"
    assert refused(envelope, pin=dataclasses.replace(PIN, installation=INSTALLATION[:-1] + "K")) == "other_installation"
    assert refused(envelope, (0, 8)) == "old_version"
    assert refused(envelope, (1, 0)) == "old_version"
    assert refused(envelope, (0, 7)) == "same_version"


def test_a_key_has_one_purpose():
    said = json.loads(trust_payload(TRUST))
    for name in ("user", "host", "interception"):
        for key in ("online", "user ca", "host ca"):
            twice = {**said, name: [*said[name], public(key).line()]}
            assert refused(sealed(canonical(twice))) == "foreign_key"
        assert refused(sealed(canonical({**said, name: [PIN.root.line()]}))) == "foreign_key"
    assert refused(sealed(canonical({**said, "online": PIN.root.line()}))) == "foreign_key"


def test_only_the_canonical_form_is_taken():
    payload = trust_payload(TRUST)
    assert refused(sealed(payload + b" ")) == "malformed"
    assert refused(sealed(json.dumps(json.loads(payload), indent=1).encode())) == "malformed"
    for more in ({"extra": 1}, {"v": 2}, {"v": True}, {"version": [0, 7, 1]}, {"version": [0, -1]}, {"user": "x"}):
        assert refused(sealed(canonical({**json.loads(payload), **more}))) == "malformed"


def test_a_signature_is_checked_before_the_payload_is_read():
    bad = Envelope(b"[" * 100_000, public("root").fingerprint, b"\0" * 64)
    assert refused(bad) == "signature"


def test_a_signer_that_signs_something_else_is_found_out():
    with pytest.raises(BadInput) as caught:
        make_envelope(DOMAIN, b"{}", public("root"), b"\0" * 64)
    assert caught.value.code == "signature"


def test_the_root_key_is_the_one_of_the_token():
    assert pinned_root(public("root").line(), public("root").fingerprint) == public("root")
    for line in (public("online").line(), public("root").line("comment")):
        with pytest.raises(BadInput):
            pinned_root(line, public("root").fingerprint)


@settings(max_examples=200)
@given(at=st.integers(0), mask=st.integers(1, 255), part=st.sampled_from(["payload", "signature"]))
def test_no_changed_byte_is_taken(at, mask, part):
    envelope = sealed(trust_payload(TRUST))
    payload, signature = bytearray(envelope.payload), bytearray(envelope.signature)
    changed = payload if part == "payload" else signature
    changed[at % len(changed)] ^= mask
    assert refused(Envelope(bytes(payload), envelope.key, bytes(signature))) == "signature"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["v", "installation", "realm", "version", "made_at", "user", "host", "interception", "online"])


@settings(max_examples=300)
@given(changes=st.dictionaries(NAMES, JSON, max_size=3))
def test_whatever_is_taken_is_written_again_the_same(changes):
    value = {**json.loads(trust_payload(TRUST)), **changes}
    try:
        found = take_trust(value)
    except BadInput:
        return
    assert trust_payload(found) == canonical(value)


@pytest.mark.parametrize("text", ["[1.0]", "[NaN]", '{"a":1,"a":1}', "[" * 99_999, "\xff", "", "[1e5]", "9" * 5000])
def test_json_that_two_readers_may_read_differently_is_refused(text):
    with pytest.raises(BadInput):
        read_json(text.encode("latin-1"), "it")
