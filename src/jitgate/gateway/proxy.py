"""The PROXY protocol, version 2: who a connection really comes from, told by a proxy whose address is listed.

Source: HAProxy's proxy-protocol.txt, section 2.2. The header is the proxy's word and nothing else's: it is read only
from listed addresses, and from those it has to come. Version 1 is not spoken.
"""

import ipaddress

from jitgate.ssh.wire import FormatError

HEAD = 16  # bytes: signature, version and command, family, length
HEADER_MAX = 1024  # bytes; addresses have 36, and what proxies add to them some hundred

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21  # version 2; LOCAL: the proxy's own, as its health checks are
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESS = {_TCP4: (4, 12), _TCP6: (16, 36)}  # bytes of an address, and of all addresses and ports


def rest_size(head: bytes) -> int:
    """Bytes that follow the first `HEAD`. `FormatError` if they are no header of version 2 over TCP."""
    if len(head) != HEAD or head[:12] != _SIGNATURE or head[12] not in {_LOCAL, _PROXY}:
        raise FormatError("no PROXY header of version 2", "have the proxy send it: its address is in proxy_from")
    size = int.from_bytes(head[14:HEAD], "big")
    if size > HEADER_MAX - HEAD:
        raise FormatError(f"a PROXY header of {HEAD + size} bytes")
    return size


def source(head: bytes, rest: bytes) -> str | None:
    """The address that the connection comes from; None if it is the proxy's own (command LOCAL)."""
    if rest_size(head) != len(rest):
        raise FormatError("a PROXY header is cut")
    if head[12] == _LOCAL:
        return None
    if head[13] not in _ADDRESS:
        raise FormatError("a PROXY header for something else than TCP over IPv4 or IPv6")
    size, least = _ADDRESS[head[13]]
    if len(rest) < least:
        raise FormatError("a PROXY header without its addresses")
    return plain_address(str(ipaddress.ip_address(rest[:size])))


def plain_address(text: str) -> str:
    """An address as rules are written: an IPv4 one in IPv6 clothes (RFC 4291 2.5.5.2) is the IPv4 one, and a zone is no
    part of it."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
