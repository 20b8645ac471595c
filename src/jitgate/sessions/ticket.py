"""The ticket of the tunnel: what a certificate's answer carries beside it, and what the gateway asks for.

It is derived, not stored: the facts as they were, with an HMAC-SHA256 under a key of its own that comes from the
sealing key (HKDF, RFC 5869). So nothing is written when one is made, and a copy of the database makes none. It says who
may have a connection carried where, until when; what has been taken away since is looked up when it is used (admit.py).
It holds nothing secret but its signature, and opens no login: the host asks for the certificate.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.ids import is_id
from jitgate.core.secret import Secret
from jitgate.core.text import check_name
from jitgate.ssh.wire import Reader, put_string, put_uint64

TICKET_MAX = 512  # characters; the longest names make some 350
PREFIX = "jgt_"  # so that secret scanners and people know one when they see it

_VERSION = b"\x01"
_MAC_BYTES = 32
_HINT = "get a new one with a certificate: jitctl cert renew HOST"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One grant, one key, one login on one host. `host_id`: of that very host, not of the next one of its name."""

    grant_id: str
    sign_in_id: str
    key_id: str
    host_id: str
    host: str
    login: str
    expires_at: Micros

    def __post_init__(self) -> None:
        for value in (self.grant_id, self.sign_in_id, self.key_id, self.host_id):
            if not is_id(value):
                raise BadInput("a ticket with something that is no id")
        check_name("host", self.host)
        check_name("login", self.login)


def ticket_key(sealing_key: Secret[bytes]) -> Secret[bytes]:
    """The key that an installation's tickets are made with; all its nodes have the same."""
    return Secret(HKDF(SHA256(), 32, None, b"jitgate tunnel ticket v1").derive(sealing_key.reveal()))


def make_ticket(ticket: Ticket, key: Secret[bytes]) -> str:
    body = b"".join(
        (
            _VERSION,
            put_string(ticket.grant_id),
            put_string(ticket.sign_in_id),
            put_string(ticket.key_id),
            put_string(ticket.host_id),
            put_string(ticket.host),
            put_string(ticket.login),
            put_uint64(ticket.expires_at),
        )
    )
    return PREFIX + base64.urlsafe_b64encode(body + _mac(key, body)).rstrip(b"=").decode()


def open_ticket(unverified: str, key: Secret[bytes]) -> Ticket:
    """What `make_ticket` wrote under the same key. `BadInput` (`ticket_bad`) for everything else, in one wording."""
    data = _decoded(unverified)
    body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if not hmac.compare_digest(_mac(key, body), mac) or body[:1] != _VERSION:
        raise _bad()
    reader = Reader(body[1:])
    ticket = Ticket(
        grant_id=reader.text(),
        sign_in_id=reader.text(),
        key_id=reader.text(),
        host_id=reader.text(),
        host=reader.text(),
        login=reader.text(),
        expires_at=reader.uint64(),
    )
    reader.end()
    return ticket


def _decoded(unverified: str) -> bytes:
    text = unverified.removeprefix(PREFIX)
    if text == unverified or len(unverified) > TICKET_MAX or not text.isascii():
        raise _bad()
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error:
        raise _bad() from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:  # one spelling for one ticket
        raise _bad()
    return data


def _mac(key: Secret[bytes], body: bytes) -> bytes:
    return hmac.digest(key.reveal(), body, "sha256")


def _bad() -> BadInput:
    return BadInput("the ticket is none of this service's", _HINT, code="ticket_bad")
