"""A ClientHello is read as TLS libraries write it; what is cut or lies about its lengths asks for nothing."""

import ssl
import time

import pytest

from jitgate.gateway.hello import HELLO_MAX, RECORD_HEAD, hello_size, protocols
from jitgate.ssh.wire import FormatError


def hello(*names: str, server_name: str = "gate.example.org") -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    if names:
        context.set_alpn_protocols(list(names))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("names", [(), ("http/1.1",), ("jitgate-tunnel/1",), ("h2", "jitgate-tunnel/1", "http/1.1")])
def test_the_names_that_openssl_offers(names: tuple[str, ...]):
    record = hello(*names)
    assert hello_size(record) == len(record)
    assert protocols(record) == tuple(name.encode() for name in names)


def test_what_follows_the_record_is_not_looked_at():
    assert protocols(hello("h2") + b"\x16\x03\x01more") == (b"h2",)


def test_each_cut_of_it_is_refused_or_offers_nothing():
    record = hello("jitgate-tunnel/1")
    for size in range(len(record)):
        cut = record[:size]
        for given in (cut, cut[:3] + max(0, size - RECORD_HEAD).to_bytes(2, "big") + cut[RECORD_HEAD:]):
            with pytest.raises(FormatError):
                protocols(given)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x16\x03\x01\x00",
        b"\x16\x03\x01\x00\x00",  # an empty record
        b"\x16\x02\x01\x00\x10",
        b"\x17\x03\x01\x00\x10",  # application data
        b"\x16\x03\x01" + (HELLO_MAX - RECORD_HEAD + 1).to_bytes(2, "big"),
        b"\x16\x03\x01\xff\xff",
    ],
)
def test_heads_that_are_none(head: bytes):
    with pytest.raises(FormatError):
        hello_size(head)


@pytest.mark.parametrize("what", ["names", "extensions"])
def test_one_full_of_small_things_costs_no_more_than_its_bytes(what: str):
    """Read before anybody is known: 60 ms of it for 16 KB would let one address keep the port busy."""
    if what == "names":
        names = bytes(16_200)  # so many names of no bytes
        said = b"\x00\x10" + (len(names) + 2).to_bytes(2, "big") + len(names).to_bytes(2, "big") + names
    else:
        said = b"\xff\xff\x00\x00" * 4_060
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00" + len(said).to_bytes(2, "big") + said
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    record = b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message
    began = time.process_time()
    for _ in range(20):
        with pytest.raises(FormatError):
            protocols(record)
    assert time.process_time() - began < 20 * 0.002


def test_a_record_that_is_no_client_hello():
    with pytest.raises(FormatError):
        protocols(b"\x16\x03\x03\x00\x04\x02\x00\x00\x00")  # a ServerHello's type
