"""Dials the gateway, shows the ticket, hands the bare connection to ssh, and ends.

ssh runs the folder around this as `PYTHON -I -S FOLDER TICKETFILE`. It imports a little of the standard library and
nothing else, because its start is a part of every ssh's. The ticket is in a file of the person's own, never in argv.

With `ProxyUseFdpass yes` stdout is a socket on which ssh waits for a descriptor (`mm_receive_fd` in OpenSSH's
monitor_fdpass.c): TLS ends after the gateway's verdict, the descriptor goes over, and nothing of ours stays in the
way. Where TLS stays on (`keep_tls`), ssh gets two pipes instead and this process carries the bytes.
"""

import contextlib
import json
import os
import select
import socket
import ssl
import stat
import struct
import sys
import time

TYPE_CHECKING = False  # importing typing costs a fifth of the start
if TYPE_CHECKING:
    from collections.abc import Callable

ALPN = "jitgate-tunnel/1"
DIAL_S = 10.0  # for all addresses of the gateway together
VERDICT_S = 25.0  # TLS, ticket, and the gateway's own dialling of the host
_TICKET_MAX = 1 << 14  # bytes of a ticket file
_VERDICT_MAX = 1 << 14  # bytes of the gateway's answer
_WORDS_MAX = 500  # characters of what it says that are shown
_CHUNK = 1 << 16
_MODE_OPEN = 0o077
_INTERRUPTED = 130


class TunnelError(Exception):
    """`what` went wrong, and a hint."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


class UntrustedError(TunnelError):
    pass


class Ticket:
    """A ticket file as it was read. `ca_file` is empty where the system's trust is used."""

    def __init__(self, row: dict[str, object], path: str) -> None:
        def word(name: str, *, empty: bool = False) -> str:
            value = row.get(name)
            if not isinstance(value, str) or not (value or empty):
                raise TunnelError(f"{path} has no {name}", "jitctl ssh-config install")
            return value

        self.ticket, self.host, self.address = word("ticket"), word("host"), word("address")
        self.server_name, self.ca_file = word("server_name"), word("ca_file", empty=True)
        port = row.get("port")
        if not isinstance(port, int) or not 0 < port < 1 << 16:
            raise TunnelError(f"{path} has no port", "jitctl ssh-config install")
        self.port = port
        self.keep_tls = row.get("keep_tls") is True

    @property
    def where(self) -> str:
        return f"{self.address} port {self.port}"


def read_ticket(path: str) -> Ticket:
    """Only a file of our own that nobody else can read. Raises TunnelError."""
    hint = "jitctl says why it could not be fetched: jitctl doctor"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise TunnelError(f"there is no ticket for this host: {path}: {_reason(error)}", hint) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _MODE_OPEN:
            raise TunnelError(f"{path} is not a file for you only", "look at it, then move it away")
        content = os.read(descriptor, _TICKET_MAX + 1)
    finally:
        os.close(descriptor)
    try:
        row = json.loads(content) if len(content) <= _TICKET_MAX else None
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise TunnelError(f"{path} holds no ticket", "jitctl ssh-config install")
    return Ticket(row, path)


def dial(address: str, port: int) -> socket.socket:
    """A TCP connection to the first of the name's addresses that answers. Raises TunnelError."""
    hint = "is this machine online, and may it reach the gateway?"
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TunnelError(f"the gateway {address} is not found: {_reason(error)}", hint) from None
    why = "no answer in time"
    until = time.monotonic() + DIAL_S
    for left, (family, kind, protocol, _, where) in zip(range(len(found), 0, -1), found, strict=True):
        connection = socket.socket(family, kind, protocol)
        try:
            # an address that does not answer leaves time for those after it
            connection.settimeout(max(0.5, (until - time.monotonic()) / left))
            connection.connect(where)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # ssh sets it only on its own
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            why = _reason(error)
            connection.close()
        else:
            return connection
    raise TunnelError(f"the gateway {address} port {port} cannot be reached: {why}", hint)


def open_gateway(address: str, port: int, server_name: str, ca_file: str) -> ssl.SSLSocket:
    """A connection to the gateway, by TLS. Raises TunnelError.

    Reading all that the system trusts takes longer than everything else here, so the one anchor that is needed is
    looked for first in the folder where they lie by name; what that does not find is decided with all of them.
    """
    if not ca_file and (folder := _by_name()):
        with contextlib.suppress(UntrustedError):
            return secure(dial(address, port), server_name, folder=folder)
    return secure(dial(address, port), server_name, ca_file)


def _by_name() -> str:
    """The folder in which OpenSSL finds an authority by the hash of its name, if that is where it looks."""
    if "SSL_CERT_FILE" in os.environ:
        return ""
    return ssl.get_default_verify_paths().capath or ""


def _trusting(ca_file: str, folder: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no anchor yet, and the name is checked
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    try:
        if ca_file or folder:
            context.load_verify_locations(ca_file or None, folder or None)
        else:
            context.load_default_certs()
    except OSError as error:
        raise TunnelError(f"{ca_file or 'the TLS authorities'}: {_reason(error)}", "jitctl doctor") from None
    return context


def secure(connection: socket.socket, server_name: str, ca_file: str = "", *, folder: str = "") -> ssl.SSLSocket:
    """TLS 1.3 with a gateway that is who it should be. Raises TunnelError; the connection is closed then.

    It is believed by `ca_file`, or by an authority in `folder`, or where both are empty by what the system trusts.
    """
    try:
        connection.settimeout(VERDICT_S)
        secured = _trusting(ca_file, folder).wrap_socket(connection, server_hostname=server_name)
    except TunnelError:
        connection.close()
        raise
    except ssl.SSLCertVerificationError as error:
        connection.close()
        what = f"the TLS certificate of the gateway is not trusted: {error.verify_message}"
        raise UntrustedError(what, "is this machine's clock right? jitctl doctor") from None
    except OSError as error:
        connection.close()
        raise TunnelError(f"no TLS 1.3 with the gateway: {_reason(error)}", "jitctl doctor") from None
    if secured.selected_alpn_protocol() != ALPN:
        secured.close()
        what = "what answers in the gateway's place is none: something before it ends TLS, or the address is wrong"
        raise TunnelError(what, "tell the service's owner: the tunnel's TLS has to be passed through")
    return secured


def ask(gateway: ssl.SSLSocket, ticket: Ticket) -> None:
    """Shows the ticket and reads the verdict; returns when the way to the host is open. Raises TunnelError."""
    until = time.monotonic() + VERDICT_S
    hello = json.dumps({"v": 1, "ticket": ticket.ticket, "host": ticket.host}).encode()
    try:
        gateway.sendall(struct.pack(">I", len(hello)) + hello)
        (size,) = struct.unpack(">I", _receive(gateway, 4, until))
        verdict = _receive(gateway, size, until) if size <= _VERDICT_MAX else b""
    except OSError as error:
        hint = "try again; if it stays: jitctl doctor"
        raise TunnelError(f"the gateway gave no answer: {_reason(error)}", hint) from None
    judge(verdict)


def judge(verdict: bytes) -> None:
    """Nothing if it is a yes; else TunnelError in the gateway's words."""
    try:
        said = json.loads(verdict)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise TunnelError("the gateway's answer is not one", "tell the service's owner")
    if said.get("ok") is not True:
        detail, hint = said.get("detail"), said.get("hint")
        raise TunnelError(detail if isinstance(detail, str) else "refused", hint if isinstance(hint, str) else "")


def _receive(gateway: ssl.SSLSocket, size: int, until: float) -> bytes:
    content = b""
    while len(content) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        gateway.settimeout(left)
        more = gateway.recv(size - len(content))
        if not more:
            raise ConnectionError("it closed the connection")
        content += more
    return content


def end_tls(gateway: ssl.SSLSocket) -> None:
    """On both sides: the socket is a bare one then. OpenSSL takes whole records, so nothing was read too far."""
    gateway.settimeout(VERDICT_S)
    try:
        gateway.unwrap()
    except OSError as error:
        raise TunnelError(f"the gateway did not end TLS: {_reason(error)}", "jitctl doctor") from None


def hand_over(bare: socket.socket) -> None:
    """Gives the bare socket to ssh, which waits for it on stdout."""
    bare.setblocking(True)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", bare.fileno()))
    with socket.socket(fileno=os.dup(1)) as ssh:
        ssh.sendmsg([b"\0"], [rights])


def relay(gateway: ssl.SSLSocket, *, keep_tls: bool) -> None:
    """Carries stdin and stdout until both directions have ended; the end of one is passed on, the other goes on.

    In TLS 1.3 `close_notify` ends one direction only (RFC 8446, 6.1).
    """
    gateway.setblocking(False)
    for descriptor in (0, 1):
        os.set_blocking(descriptor, False)
    up = down = b""  # came from one side, and wait for the other
    reading, receiving = True, True  # from ssh, from the gateway
    while reading or receiving or up or down:
        if not (receiving and not down and gateway.pending()):
            _wait(
                gateway,
                reading=reading and not up,
                sending=bool(up),
                receiving=receiving and not down,
                writing=bool(down),
            )
        if reading and not up:
            data = _bytes(lambda: os.read(0, _CHUNK))
            if data == b"":
                reading = False
                receiving = not _end_direction(gateway, keep_tls=keep_tls) and receiving
            up = data or b""
        if up:
            up = up[_count(lambda: gateway.send(up)) :]  # noqa: B023  # called at once
        if receiving and not down:
            data = _bytes(lambda: gateway.recv(_CHUNK))
            if data == b"":
                receiving = False
                os.close(1)
            down = data or b""
        if down:
            down = down[_count(lambda: os.write(1, down)) :]  # noqa: B023  # called at once


def _wait(gateway: ssl.SSLSocket, *, reading: bool, sending: bool, receiving: bool, writing: bool) -> None:
    poll = select.poll()
    wanted = {0: reading * select.POLLIN, 1: writing * select.POLLOUT}
    wanted[gateway.fileno()] = receiving * select.POLLIN | sending * select.POLLOUT
    for descriptor, events in wanted.items():
        if events:  # without any, a peer that has gone would wake us all the time
            poll.register(descriptor, events)
    poll.poll()


def _end_direction(gateway: ssl.SSLSocket, *, keep_tls: bool) -> bool:
    """Says that no more comes from here; True if TLS knows that the other side has said so too."""
    try:
        if not keep_tls:
            gateway.shutdown(socket.SHUT_WR)
            return False
        gateway.unwrap()
    except OSError:
        return False  # ours is sent
    return True


def _bytes(act: "Callable[[], bytes]") -> bytes | None:
    """What was read, or None where one would have to wait."""
    try:
        return act()
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except ssl.SSLZeroReturnError:  # what Python makes of the other side's end after our own
        return b""


def _count(act: "Callable[[], int]") -> int:
    """How much was written; 0 where one would have to wait."""
    try:
        return act()
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return 0


def is_fresh(paths: list[str]) -> bool:
    """Whether every file's time still lies in the future: there is nothing to renew."""
    try:
        return all(os.stat(path).st_mtime > time.time() for path in paths)  # noqa: PTH116  # pathlib costs a fifth of the start
    except OSError:
        return False


def run(arguments: list[str], verdict: bytes | None) -> int:
    if verdict is not None:
        judge(verdict)
    match arguments:
        case ["--fresh", *paths] if paths:
            return 0 if is_fresh(paths) else 1
        case ["--no-login", host, *logins]:
            what = f"on {host} you may be {' or '.join(logins)}"
            raise TunnelError(what, f"ssh {(*logins, 'LOGIN')[0]}@{host}, or: jitctl explain {host}")
        case [path]:
            tunnel(read_ticket(path))
            return 0
    raise TunnelError("ssh runs this, by our ssh config", "jitctl ssh-config show")


def tunnel(ticket: Ticket) -> None:
    passes = stat.S_ISSOCK(os.fstat(1).st_mode)
    if passes and ticket.keep_tls:
        raise TunnelError("the gateway keeps TLS on now, and this ssh config does not", "jitctl ssh-config install")
    gateway = open_gateway(ticket.address, ticket.port, ticket.server_name, ticket.ca_file)
    ask(gateway, ticket)
    if not ticket.keep_tls:
        end_tls(gateway)
    if passes:
        hand_over(gateway)
    else:
        relay(gateway, keep_tls=ticket.keep_tls)


def main(arguments: list[str], verdict: bytes | None = None) -> int:
    """The exit status. `verdict`: what the gateway has said already."""
    try:
        return run(arguments, verdict)
    except TunnelError as error:
        sys.stderr.write(f"jitctl: error: {_plain(error.what)}\n")
        if error.hint:
            sys.stderr.write(f"jitctl: hint: {_plain(error.hint)}\n")
        return 1
    except OSError:
        return 1  # either end has gone in the middle; ssh says so
    except KeyboardInterrupt:
        return _INTERRUPTED


def _plain(words: str) -> str:
    """Text from outside as it may stand in a terminal."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in words[:_WORDS_MAX])


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "broken").lower().replace("_", " ")
    words = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return words[:1].lower() + words[1:]
