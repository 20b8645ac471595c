"""What tunnel.py does, in the common case, with the C modules below `ssl` and `socket` alone.

Those two take longer to load than all that they are needed for here, and this is a part of every ssh's start. These
modules are CPython's own: whatever is not as expected, in them or on the way, is an exception; tunnel.py begins anew.
"""

import _socket
import _ssl
import posix
import sys
import time

TYPE_CHECKING = False  # importing typing costs too much
if TYPE_CHECKING:
    from typing import Any

ALPN = "jitgate-tunnel/1"
_TLS_1_3 = 0x0304
_DIAL_S, _VERDICT_S = 2.0, 25.0  # where one address does not answer soon, the other ones are tunnel.py's
_MAX = 1 << 14  # bytes of a ticket file, and of a verdict
_KIND, _SOCKET, _REGULAR, _OPEN = 0o170000, 0o140000, 0o100000, 0o077  # of st_mode, stat(2)


class Connection(_socket.socket):
    """TLS holds it by a weak reference, which the type below does not allow."""


class NotHereError(Exception):
    """It is not the common case."""


def pass_on(path: str) -> bytes:
    """Gives the connection to ssh, on stdout. Else the gateway's verdict, if it is not a yes; or any exception."""
    _need(posix.fstat(1).st_mode & _KIND == _SOCKET)
    row = _read(path)
    _need(row["keep_tls"] == "false")
    context = _context(row["ca_file"])
    found = _socket.getaddrinfo(row["address"].encode("ascii"), int(row["port"]), 0, _socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    connection = Connection(family, kind, protocol)
    connection.settimeout(_DIAL_S)
    connection.connect(where)
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    connection.settimeout(_VERDICT_S)
    secured = context._wrap_socket(connection, False, row["server_name"])  # noqa: SLF001  # below `ssl` there is no other
    secured.do_handshake()
    _need(secured.version() == "TLSv1.3" and secured.selected_alpn_protocol() == ALPN)
    hello = f'{{"v": 1, "ticket": "{row["ticket"]}", "host": "{row["host"]}"}}'.encode("ascii")
    _need(secured.write(len(hello).to_bytes(4, "big") + hello) == len(hello) + 4)
    until = time.monotonic() + _VERDICT_S
    size = int.from_bytes(_receive(connection, secured, 4, until), "big")
    _need(size <= _MAX)
    verdict = _receive(connection, secured, size, until)
    if not verdict.replace(b" ", b"").startswith(b'{"ok":true,'):
        return verdict
    connection.settimeout(_VERDICT_S)
    secured.shutdown()
    connection.setblocking(True)
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, connection.fileno().to_bytes(4, sys.byteorder))
    _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, posix.dup(1)).sendmsg([b"\0"], [rights])
    return b""


def _context(ca_file: str) -> "Any":  # noqa: ANN401  # below `ssl` there are no types
    context: Any = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT)  # noqa: SLF001  # as above
    context.minimum_version = _TLS_1_3
    context._set_alpn_protocols(bytes([len(ALPN)]) + ALPN.encode())  # noqa: SLF001  # as above
    if ca_file:
        context.load_verify_locations(ca_file, None, None)
    else:
        _need(b"SSL_CERT_FILE" not in posix.environ and b"SSL_CERT_DIR" not in posix.environ)
        context.load_verify_locations(None, _ssl.get_default_verify_paths()[3], None)
    # what PROTOCOL_TLS_CLIENT stands for: said again, because all depends on it
    _need(context.verify_mode == _ssl.CERT_REQUIRED and context.check_hostname is True)
    return context


def _read(path: str) -> dict[str, str]:
    """A ticket file as jitctl writes it, a line for each name; only one that nobody else can read."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC | posix.O_NONBLOCK)
    status = posix.fstat(descriptor)
    mode = status.st_mode
    _need(mode & _KIND == _REGULAR and not mode & _OPEN and status.st_uid == posix.geteuid())
    content = posix.read(descriptor, _MAX + 1)
    posix.close(descriptor)
    _need(len(content) <= _MAX and b"\\" not in content)
    row = {}
    for line in content.decode("ascii").splitlines()[1:-1]:
        name, _, value = line.strip(" ,").partition(": ")
        row[name.strip('"')] = value
    for name in ("ticket", "host", "address", "server_name", "ca_file"):
        word = row[name][1:-1]
        _need(row[name] == f'"{word}"' and '"' not in word and bool(word or name == "ca_file"))
        row[name] = word
    return row


def _receive(connection: _socket.socket, secured: "Any", size: int, until: float) -> bytes:  # noqa: ANN401
    content = b""
    while len(content) < size:
        connection.settimeout(max(0.001, until - time.monotonic()))
        more = secured.read(size - len(content))
        _need(bool(more))
        content += more
    return content


def _need(fact: bool) -> None:  # noqa: FBT001  # an assertion that -O does not take away
    if not fact:
        raise NotHereError
