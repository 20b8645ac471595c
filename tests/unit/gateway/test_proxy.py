"""PROXY protocol, version 2: the headers that proxies write, and nothing else."""

import ipaddress

import pytest

from jitgate.gateway.proxy import HEAD, HEADER_MAX, plain_address, rest_size, source
from jitgate.ssh.wire import FormatError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def header(client: str = "192.0.2.7", *, more: bytes = b"", command: int = 0x21, family: int | None = None) -> bytes:
    """As the specification's section 2.2 has it."""
    address = ipaddress.ip_address(client)
    kind = family if family is not None else {4: 0x11, 6: 0x21}[address.version]
    rest = address.packed + address.packed + (50_000).to_bytes(2, "big") + (443).to_bytes(2, "big") + more
    return SIGNATURE + bytes([command, kind]) + len(rest).to_bytes(2, "big") + rest


def read(data: bytes) -> str | None:
    assert rest_size(data[:HEAD]) == len(data) - HEAD
    return source(data[:HEAD], data[HEAD:])


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7", "0.0.0.0"])
def test_the_address_is_the_clients(client: str):
    assert read(header(client)) == client
    assert read(header(client, more=b"\x03\x00\x04crc.")) == client  # what is added to the addresses is passed over


def test_an_ipv4_address_in_ipv6_clothes_is_that_address():
    assert read(header("::ffff:192.0.2.7")) == "192.0.2.7"
    assert plain_address("::ffff:192.0.2.7") == "192.0.2.7"
    assert plain_address("fe80::1%eth0") == "fe80::1"


def test_a_proxys_own_connection_has_no_other_source():
    assert read(header(command=0x20)) is None
    assert read(SIGNATURE + b"\x20\x00\x00\x00") is None


@pytest.mark.parametrize(
    "wrong",
    [
        b"PROXY TCP4 192.0.2.7 192.0.2.8 5 6\r\n",
        b"GET / HTTP/1.1\r\nx",
        b"",
        header()[: HEAD - 1],
        b"X" + header()[1:],
        header(command=0x11),  # version 1 in binary
        header(command=0x22),
        header(more=b"x" * (HEADER_MAX - HEAD)),
    ],
)
def test_heads_that_are_refused(wrong: bytes):
    with pytest.raises(FormatError):
        rest_size(wrong[:HEAD])


@pytest.mark.parametrize("wrong", [header(family=0x12), header(family=0x31), header(family=0x00), header(family=0x21)])
def test_headers_for_something_else_are_refused(wrong: bytes):
    """UDP, a Unix socket, nothing known, IPv6 with the addresses of IPv4."""
    with pytest.raises(FormatError):
        source(wrong[:HEAD], wrong[HEAD:])


def test_a_rest_of_another_length_is_refused():
    with pytest.raises(FormatError):
        source(header()[:HEAD], header()[HEAD:-1])
