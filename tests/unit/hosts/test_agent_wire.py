"""Frames between agent and service."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.hosts.test_bundle import HOST_ID, ID, KRL, bundle_of

from jitgate.core.errors import BadInput
from jitgate.core.fields import canonical
from jitgate.hosts import agent_wire as wire
from jitgate.hosts.agent_wire import Have, Problem
from jitgate.hosts.bundle import krl_digest

NONCE = "5a" * 32
HAVE = Have((0, 41, 5), (0, 7), krl_digest(KRL), "SHA256:" + "a" * 43)
FROM_SERVICE = (
    wire.Greeting(NONCE),
    wire.Welcome(7),
    wire.Refused("host_unknown", "no such host", "join again"),
    wire.TrustSent(bundle_of()),
    wire.BundleSent(bundle_of(), KRL),
    wire.BundleSent(bundle_of(), None),
    wire.BundleSent(bundle_of(), b""),
    wire.CertificateSent("ssh-ed25519-cert-v01@openssh.com AAAA"),
    wire.Dial(ID, NONCE, 9),
    wire.Pong(8),
    wire.Unknown("later"),
)
FROM_AGENT = (
    wire.AgentHello("default", "web1", "0.1.0", b"signature", HAVE, 5),
    wire.AgentHello("default", "web1", "0.1.0", b"signature", Have(), 5),
    wire.Ack(HAVE, 6, (Problem("clock", "61 s ahead"), Problem("krl_write"))),
    wire.Ack(Have(), 6),
    wire.Renew(),
    wire.Ping(4),
    wire.Report("login", {"serial": "5", "port": 40022}),
)


def payload(frame: bytes, most: int) -> bytes:
    assert wire.length_of(frame[:4], most) == len(frame) - 4
    return frame[4:]


@pytest.mark.parametrize("message", FROM_SERVICE, ids=lambda each: type(each).__name__)
def test_what_the_service_writes_the_agent_reads(message):
    assert wire.take_from_service(payload(wire.put_frame(message), wire.TO_AGENT_MAX)) == message


@pytest.mark.parametrize("message", FROM_AGENT, ids=lambda each: type(each).__name__)
def test_what_the_agent_writes_the_service_reads(message):
    assert wire.take_from_agent(payload(wire.put_frame(message), wire.FROM_AGENT_MAX)) == message


@pytest.mark.parametrize("krl", [KRL, b"", None])
def test_a_bundle_in_parts_is_the_same_frame(krl):
    parts = wire.bundle_frame(bundle_of(), None if krl is None else base64.b64encode(krl))
    assert b"".join(parts) == wire.put_frame(wire.BundleSent(bundle_of(), krl))


def test_the_largest_of_all_fits_its_frame():
    problems = tuple(Problem("c" * 64, "d" * 999) for _ in range(99))
    ack = payload(wire.put_frame(wire.Ack(HAVE, 6, problems)), wire.FROM_AGENT_MAX)
    found = wire.take_from_agent(ack)
    assert isinstance(found, wire.Ack)
    assert len(found.problems) == wire.PROBLEMS_MAX


@pytest.mark.parametrize("size", [0, wire.FROM_AGENT_MAX + 1, 1 << 31])
def test_a_frame_is_bounded_by_its_first_four_bytes(size):
    with pytest.raises(BadInput):
        wire.length_of(size.to_bytes(4, "big"), wire.FROM_AGENT_MAX)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "dial", "id": HOST_ID, "secret": NONCE, "expires_at": 1},  # only the service may
        {"type": "bundle", "envelope": bundle_of().json()},
        {"type": "later"},
        {"type": "ping", "clock": -1},
        {"type": "ping", "clock": True},
        {"type": "ping", "clock": 1, "more": 1},
        {"type": "renew", "host": "web2"},
        {"type": "ack", "have": {}, "applied_at": 1, "problems": []},
        {"type": "ack", "have": {"krl": "x"}, "applied_at": 1, "problems": []},
        {"type": "ack", "have": {"krl": ""}, "applied_at": 1, "problems": [{"code": "\x1b[2J", "detail": ""}]},
        {"type": "hello", "v": 1, "host": "web1"},
        {},
        [],
    ],
)
def test_what_no_agent_sends_is_refused(message):
    with pytest.raises(BadInput):
        wire.take_from_agent(canonical(message))


def test_an_agent_of_before_says_nothing_of_its_certificate():
    message = {"type": "ack", "have": {"krl": ""}, "applied_at": 1, "problems": []}
    assert wire.take_from_agent(canonical(message)) == wire.Ack(Have(), 1)
    message["have"] = {"krl": "", "host_ca": "SHA256:short"}
    with pytest.raises(BadInput):
        wire.take_from_agent(canonical(message))


def test_a_signature_is_for_this_host_this_connection_and_this_certificate():
    said = wire.hello_bytes(HOST_ID, "default", "web1", NONCE, "ab" * 32)
    others = [
        wire.hello_bytes(ID, "default", "web1", NONCE, "ab" * 32),
        wire.hello_bytes(HOST_ID, "other", "web1", NONCE, "ab" * 32),
        wire.hello_bytes(HOST_ID, "default", "web2", NONCE, "ab" * 32),
        wire.hello_bytes(HOST_ID, "default", "web1", "5b" * 32, "ab" * 32),
        wire.hello_bytes(HOST_ID, "default", "web1", NONCE, "ac" * 32),
    ]
    assert said not in others


SEEDS = [wire.put_frame(each)[4:] for each in (*FROM_SERVICE, *FROM_AGENT)]


@settings(max_examples=500)
@given(data=st.sampled_from(SEEDS), at=st.integers(0), mask=st.integers(1, 255), cut=st.integers(0, 20))
def test_changed_frames_are_taken_or_refused_and_nothing_else(data, at, mask, cut):
    at %= len(data)
    changed = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 + cut :]
    for take in (wire.take_from_service, wire.take_from_agent):
        try:
            found = take(changed)
        except BadInput:
            continue
        assert take(wire.put_frame(found)[4:]) == found
