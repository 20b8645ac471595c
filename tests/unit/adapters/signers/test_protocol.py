"""Frames between service and signer: exact both ways, and nothing else is taken."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ca.samples import public

from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.protocol import Checkpoint, Hello, ListFrom, Op, Sign
from jitgate.ca.model import HeldKey, HeldKeys, LogHead, SignerRefusal, SignRequest
from jitgate.ca.realms import CaKind
from jitgate.ssh.wire import FormatError, put_uint32

texts = st.text(max_size=30)
requests = st.one_of(
    st.just(Hello()),
    st.lists(st.builds(SignRequest, texts, st.binary(max_size=200)), min_size=1, max_size=5).map(tuple).map(Sign),
    st.builds(Checkpoint, st.binary(max_size=200)),
    st.builds(ListFrom, st.integers(0, (1 << 64) - 1)),
)
results = st.lists(st.binary(max_size=100) | st.builds(SignerRefusal, texts, texts, texts), max_size=5)
HELD = HeldKeys(
    (HeldKey("default", CaKind.USER, public("user")), HeldKey("other", CaKind.HOST, public("host"))),
    public("log"),
    "jitgate.example.com/log",
    LogHead(7, "cm9vdA=="),
)


def payload(frame: bytes) -> bytes:
    assert protocol.length_of(frame[:4]) == len(frame) - 4
    return frame[4:]


@given(requests)
def test_requests_arrive_as_they_were_sent(request):
    assert protocol.take_request(payload(protocol.put_request(request))) == request


@given(results)
def test_results_arrive_as_they_were_sent(found):
    sent = payload(protocol.put_results(Op.SIGN, found))
    assert protocol.take_results(Op.SIGN, sent, len(found)) == found
    with pytest.raises(FormatError):
        protocol.take_results(Op.CHECKPOINT, sent, len(found))
    with pytest.raises(FormatError):
        protocol.take_results(Op.SIGN, sent, len(found) + 1)


def test_keys_and_pages_arrive_as_they_were_sent():
    assert protocol.take_keys(payload(protocol.put_keys(HELD))) == HELD
    assert protocol.take_page(payload(protocol.put_page(b"a\nb\n", 1 << 40))) == (b"a\nb\n", 1 << 40)


def test_a_failure_is_an_answer_to_anything():
    for take in (protocol.take_keys, protocol.take_page):
        with pytest.raises(protocol.SignerFailed, match="no key") as raised:
            take(payload(protocol.put_failed("no key", "make one")))
        assert raised.value.hint == "make one"


@given(requests, st.data())
def test_a_request_that_is_cut_or_longer_is_refused(request, data):
    whole = payload(protocol.put_request(request))
    with pytest.raises(FormatError):
        protocol.take_request(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FormatError):
        protocol.take_request(whole + b"\0")


@pytest.mark.parametrize("take", [protocol.take_request, protocol.take_keys, protocol.take_page])
@given(data=st.binary(max_size=100))
def test_no_bytes_raise_anything_but_a_format_error(take, data):
    with contextlib.suppress(FormatError):
        take(data)


@pytest.mark.parametrize("length", [0, protocol.MAX_FRAME + 1, (1 << 32) - 1])
def test_a_frame_of_no_length_or_too_much_is_refused_before_it_is_read(length: int):
    with pytest.raises(FormatError):
        protocol.length_of(put_uint32(length))


def test_limits_and_other_versions_are_refused():
    for bad in (
        bytes([Op.SIGN]) + put_uint32(0),
        bytes([Op.SIGN]) + put_uint32(protocol.MAX_BATCH + 1) + b"\0" * 8 * (protocol.MAX_BATCH + 1),
        bytes([Op.HELLO]) + put_uint32(protocol.VERSION + 1),
        bytes([Op.FAILED]),
        b"\xff",
        b"",
    ):
        with pytest.raises(FormatError):
            protocol.take_request(bad)
