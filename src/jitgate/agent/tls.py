"""TLS to the service, and to its gateways: the pinned authority and nobody else, or what the machine trusts."""

import hashlib
import hmac
import json
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from jitgate import __version__
from jitgate.agent import durable
from jitgate.core.errors import BadInput, Conflict, Denied, Error, NotFound, NotSignedIn, TooMany, Unreachable, Unsafe
from jitgate.core.fields import read_json
from jitgate.core.text import shown

ANSWER_MAX: Final = 16 << 20  # bytes: a bundle with the largest revocation list
_OK: Final = 200
_MULTIPLE_CHOICES: Final = 300
_BAD_REQUEST: Final = 400
_PEM_MAX: Final = 1 << 16
_TIMEOUT_S: Final = 30.0
_AUTHORITY: Final = "/.well-known/jitgate/tls-ca"
_ERRORS: Final[dict[int, type[Error]]] = {
    401: NotSignedIn,
    403: Denied,
    404: NotFound,
    409: Conflict,
    429: TooMany,
    503: Unreachable,
}


def context(authority: bytes, alpn: str = "") -> ssl.SSLContext:
    """`authority`: the only one, in PEM; empty for what the machine trusts. Names are checked. TLS 1.3 for `alpn`."""
    if authority:
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        found.load_verify_locations(cadata=authority.decode("ascii"))
    else:
        found = ssl.create_default_context()
    found.minimum_version = ssl.TLSVersion.TLSv1_3 if alpn else ssl.TLSVersion.TLSv1_2
    if alpn:
        found.set_alpn_protocols([alpn])
    return found


def authority_of(url: str, pin: str, kept: Path) -> bytes:
    """The TLS authority that the pin names, in PEM: as kept, else asked for, where nothing is sent and nothing that
    comes is trusted before its SHA-256 is the pin. Empty without a pin. `Unsafe` for another one."""
    if not pin:
        return b""
    pem = durable.get(kept, _PEM_MAX)
    if pem is None or not _is_pinned(pem, pin):
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        status, pem = _exchange(url, "GET", _AUTHORITY, b"", nobody, _PEM_MAX)
        if status != _OK or not _is_pinned(pem, pin):
            raise Unsafe(
                f"the TLS authority of {url} is not the one that was pinned",
                "somebody may stand in between; ask the service's owner for a new join token",
            )
        durable.put(kept, pem, durable.PUBLIC)
    return pem


def post(url: str, path: str, document: object, authority: bytes) -> tuple[int, object]:
    """Status and JSON of the answer; the service's own words as `Error` for a refusal, `Unreachable` without one."""
    secure = context(authority) if url.startswith("https://") else None
    status, content = _exchange(url, "POST", path, json.dumps(document).encode(), secure, ANSWER_MAX)
    return status, _understood(url, status, content)


def get(url: str, path: str, authority: bytes) -> object:
    """The JSON of the answer; as `post`."""
    secure = context(authority) if url.startswith("https://") else None
    return _understood(url, *_exchange(url, "GET", path, b"", secure, ANSWER_MAX))


def _understood(url: str, status: int, content: bytes) -> object:
    answer = read_json(content, f"the answer of {url}") if content else {}
    if status >= _BAD_REQUEST:
        said = answer if isinstance(answer, dict) else {}
        words = [str(said.get(name) or "")[:300] for name in ("detail", "hint", "code")]
        detail, hint, code = ("".join(c if c.isprintable() else "?" for c in text) for text in words)
        raise _ERRORS.get(status, BadInput)(detail or f"{url} answers {status}", hint, code=code)
    if status >= _MULTIPLE_CHOICES:
        raise BadInput(f"{url} sends elsewhere; not followed", "is this the service's own address?")
    return answer


def _is_pinned(pem: bytes, pin: str) -> bool:
    try:
        der = ssl.PEM_cert_to_DER_cert(pem.decode("ascii").strip())
    except ValueError:
        return False
    return hmac.compare_digest(f"sha256={hashlib.sha256(der).hexdigest()}", pin)


def _exchange(
    url: str, method: str, path: str, body: bytes, secure: ssl.SSLContext | None, most: int
) -> tuple[int, bytes]:
    import http.client  # noqa: PLC0415  # a megabyte that an agent which runs does not need

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if secure:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=_TIMEOUT_S, context=secure
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    headers = {"Accept": "application/json", "User-Agent": f"jitgate-agent/{__version__}"}
    if body:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        content = response.read(most + 1)
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
        raise Unreachable(f"{url} cannot be reached: {shown(str(why), 120)[1:-1]}", "is the service running?") from None
    finally:
        connection.close()
    if len(content) > most:
        raise BadInput(f"{url} answers with more than {most} bytes")
    return response.status, content
