"""What is said before anything is carried: TLS 1.3, one question, one answer, and (as a rule) TLS is taken off again.

The question and the answer are each a length (uint32, big-endian) and so many bytes of JSON:
  {"v": 1, "ticket": "jgt_...", "host": "web1"}
  {"ok": true, "session": ULID, "ends_at": RFC 3339}  or  {"ok": false, "code": ..., "detail": ..., "hint": ...}
After a yes both sides send TLS's close_notify, wait for the other's (RFC 8446 6.1), and go on with bare bytes: SSH,
which is encrypted from end to end by itself. OpenSSL reads record by record from the socket, so what follows the last
record is still in it. With `keep_tls` the connection stays as it is and a relay runs (relay.py).
"""

import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from jitgate.core.errors import BadInput, Error
from jitgate.core.sockets import exactly, framed, tried
from jitgate.gateway.listen import TUNNEL
from jitgate.sessions.ticket import TICKET_MAX

QUESTION_MAX = 2048  # bytes: a ticket, a host's name, and room for what a later version adds
HOST_MAX = 64  # characters, as names of hosts have
_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Question:
    """As it came in; nothing of it is checked but its form."""

    unverified_ticket: str
    unverified_host: str


def tunnel_context(certificate: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """A context for the tunnel."""
    return tls_13(TUNNEL.decode(), certificate)


def tls_13(protocol: str, certificate: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """A context for TLS 1.3 only, one protocol, no tickets of TLS's own (nobody comes back by them)."""
    context = certificate or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.set_alpn_protocols([protocol])
    return context


async def shake_hands(
    connection: socket.socket, context: ssl.SSLContext, protocol: str = TUNNEL.decode()
) -> ssl.SSLSocket:
    """TLS on an accepted, non-blocking socket, which is the result's from now on. Raises `OSError`, `BadInput`."""
    tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    try:
        await tried(tls, tls.do_handshake)
    except BaseException:
        tls.close()
        raise
    if tls.selected_alpn_protocol() != protocol:
        tls.close()
        raise BadInput("not the tunnel's protocol", "use jitctl", code="tunnel_protocol")
    return tls


async def read_question(tls: ssl.SSLSocket) -> Question:
    """Raises `OSError`, `BadInput` (`tunnel_protocol`)."""
    said = await read_document(tls, QUESTION_MAX)
    if said.get("v") != 1:
        raise _malformed("a question of another version")
    ticket, host = said.get("ticket"), said.get("host")
    if not isinstance(ticket, str) or not isinstance(host, str) or len(ticket) > TICKET_MAX or len(host) > HOST_MAX:
        raise _malformed("a question without ticket and host")
    return Question(ticket, host)


async def read_document(tls: ssl.SSLSocket, most: int) -> dict[str, Any]:
    """An object of at most so many bytes. Raises `OSError`, `BadInput` (`tunnel_protocol`)."""
    size = int.from_bytes(await _taken(tls, _LENGTH), "big")
    if not 0 < size <= most:
        raise _malformed(f"a question of {size} bytes")
    try:
        said = json.loads(await _taken(tls, size))
    except (ValueError, RecursionError):  # no JSON, no UTF-8
        raise _malformed("a question that is no JSON") from None
    if not isinstance(said, dict):
        raise _malformed("a question of another version")
    return said


async def answer(tls: ssl.SSLSocket, verdict: dict[str, Any]) -> None:
    data = framed(json.dumps(verdict, separators=(",", ":")).encode())
    await tried(tls, lambda: tls.send(data))  # less than a record holds (RFC 8446 5.1), so all of it or nothing


def no(error: Error) -> dict[str, Any]:
    return {"ok": False, "code": error.code, "detail": error.what, "hint": error.hint}


async def take_off(tls: ssl.SSLSocket) -> socket.socket:
    """The bare socket, once both sides have ended TLS. Raises `OSError`."""
    return await tried(tls, tls.unwrap)


async def _taken(tls: ssl.SSLSocket, count: int) -> bytes:
    if (found := await exactly(tls, count)) is None:
        raise _malformed("a question that is cut")
    return found


def _malformed(what: str) -> BadInput:
    return BadInput(what, "use a jitctl of this service's version", code="tunnel_protocol")
