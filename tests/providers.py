"""An identity provider that is ours: it makes any token there can be, good and bad, and can be slow, wrong or away.

`HttpProvider` reaches it without sockets (`fake.client()`); `fake.serve()` is the same on a loopback port.
"""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from jitgate.core.clock import SECOND, Clock, system_clock

Json = dict[str, Any]
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
ISSUER = "https://idp.example.com/dex"
CLIENT = "jitctl"
SERVICE_CLIENT = "jitgate"
SECRET = "a secret: with % and ü"


_BROKEN: dict[str, Callable[[str], tuple[int, Json, bytes]]] = {
    "error": lambda _: (503, {}, b"{}"),
    "redirect": lambda issuer: (302, {"location": f"{issuer}/elsewhere"}, b""),
    "html": lambda _: (200, {"content-type": "text/html"}, b"<html>sign in to the hotel's network</html>"),
    "endless": lambda _: (200, {}, b" " * (4 << 20)),
    "compressed": lambda _: (200, {"content-encoding": "gzip"}, b"\x1f\x8b"),
}


@cache
def rsa_key(which: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Made once a run: it takes a while."""
    assert which >= 0
    return rsa.generate_private_key(65537, bits)


def jwk(key: Private, key_id: str, **more: Any) -> Json:
    names: Any = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
    }
    algorithm: Any = next((a for kind, a in names.items() if isinstance(key, kind)), jwt.algorithms.OKPAlgorithm)
    found: Json = json.loads(algorithm.to_jwk(key.public_key()))
    found.pop("key_ops", None)
    return found | {"kid": key_id, "use": "sig"} | more


@dataclass
class FakeProvider:
    """`people`: what the browser's person is; `approved`: device codes that were answered, by user code."""

    issuer: str = ISSUER
    clock: Clock = system_clock
    key: Private = field(default_factory=rsa_key)
    key_id: str = "k1"
    algorithm: str = "RS256"
    claims: Json = field(default_factory=lambda: {"sub": "u-1", "preferred_username": "alice", "groups": []})
    lifetime_s: int = 3600
    document: Json = field(default_factory=dict)
    """What its discovery document says instead."""
    listed: list[Json] | None = None
    """The key set, if it is not that of `key` alone."""
    down: str = ""
    """How it fails: `refuse`, `timeout`, `error`, `redirect`, `html`, `endless`."""
    requests: list[str] = field(default_factory=list)
    devices: dict[str, str] = field(default_factory=dict)
    """Device code to state: `pending`, `slow_down`, `access_denied`, `expired_token`, `approved`."""
    device_interval: int | None = 1
    before_answer: Callable[[str], None] | None = None
    _codes: dict[str, Json] = field(default_factory=dict)

    def token(self, *, header: Json | None = None, key: Any = None, algorithm: str | None = None, **claims: Any) -> str:
        """A good ID token for `jitctl` but for what is said here. A claim given as None is left out."""
        now = self.clock() // SECOND
        said = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + self.lifetime_s} | self.claims | claims
        body = {name: value for name, value in said.items() if value is not None}
        head: Json = {"kid": self.key_id} | (header or {})
        signed_by, name = self.key if key is None else key, algorithm or self.algorithm
        return jwt.encode(body, signed_by, algorithm=name, headers={k: v for k, v in head.items() if v is not None})

    def rotate(self, key_id: str = "k2") -> None:
        """Another key from now on; the old one is gone."""
        self.key, self.key_id = rsa_key(1), key_id

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self._mock), follow_redirects=False)

    def answer(self, method: str, path: str, query: str, body: bytes, headers: Json) -> tuple[int, Json, bytes]:
        """Status, headers and body of what is asked for."""
        self.requests.append(path)
        if self.before_answer:
            self.before_answer(path)
        below = path.removeprefix(urlsplit(self.issuer).path.rstrip("/"))
        form = {name: values[0] for name, values in parse_qs(body.decode() if method == "POST" else query).items()}
        if self.down:
            return _BROKEN[self.down](self.issuer)
        if below == "/.well-known/openid-configuration":
            return _json(200, self._document())
        if below == "/keys":
            return _json(200, {"keys": [jwk(self.key, self.key_id)] if self.listed is None else self.listed})
        if below == "/auth":
            return self._authorize(form)
        if below == "/device/code":
            return self._device(form, headers)
        if below == "/token":
            return self._token(form, headers)
        return _json(404, {"error": "not_found"})

    def approve(self, how: str = "approved") -> None:
        """The person answers every device that waits."""
        self.devices |= dict.fromkeys(self.devices, how)

    def _document(self) -> Json:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth",
            "token_endpoint": f"{self.issuer}/token",
            "device_authorization_endpoint": f"{self.issuer}/device/code",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        } | self.document

    def _authorize(self, form: Json) -> tuple[int, Json, bytes]:
        """The person in the browser says yes at once."""
        code = secrets.token_urlsafe(16)
        self._codes[code] = form
        back = urlencode({"code": code, "state": form.get("state", "")})
        return 302, {"location": f"{form['redirect_uri']}?{back}"}, b""

    def _device(self, form: Json, headers: Json) -> tuple[int, Json, bytes]:
        if not _is_service(form, headers):
            return _json(401, {"error": "invalid_client"})
        code = secrets.token_urlsafe(16)
        self.devices[code] = "pending"
        interval = {} if self.device_interval is None else {"interval": self.device_interval}
        uri = f"{self.issuer}/device"
        user = {"user_code": "WDJB-MJHT", "verification_uri": uri, "verification_uri_complete": f"{uri}?c=WDJB-MJHT"}
        return _json(200, {"device_code": code, "expires_in": 300} | user | interval)

    def _token(self, form: Json, headers: Json) -> tuple[int, Json, bytes]:
        if form.get("grant_type") == "authorization_code":
            asked = self._codes.pop(form.get("code", ""), None)
            verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
            if asked is None or asked.get("code_challenge") != challenge:
                return _json(400, {"error": "invalid_grant"})
            return _json(200, {"id_token": self.token(nonce=asked.get("nonce"), aud=asked["client_id"])})
        if not _is_service(form, headers):
            return _json(401, {"error": "invalid_client"})
        state = self.devices.get(form.get("device_code", ""), "expired_token")
        if state == "approved":
            del self.devices[form["device_code"]]
            return _json(200, {"id_token": self.token(aud=SERVICE_CLIENT)})
        return _json(400, {"error": "authorization_pending" if state == "pending" else state})

    def _mock(self, request: httpx2.Request) -> httpx2.Response:
        if self.down == "refuse":
            raise httpx2.ConnectError("connection refused")
        if self.down == "timeout":
            raise httpx2.ReadTimeout("")
        url = urlsplit(str(request.url))
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, said, body = self.answer(request.method, url.path, url.query, request.content, headers)
        return httpx2.Response(status, headers=said, content=_stream(body))

    @contextmanager
    def serve(self) -> Iterator[str]:
        """On a loopback port of its own: the issuer, which is also this provider's from now on."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, said, content = fake.answer(self.command, parts.path, parts.query, body, headers)
                self.send_response(status)
                for name, value in ({"content-length": str(len(content))} | said).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _do  # noqa: N815  # the server's names

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            self.issuer = f"http://127.0.0.1:{server.server_port}"
            yield self.issuer
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


async def _stream(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 1 << 16):
        yield body[at : at + (1 << 16)]


def _json(status: int, content: Json) -> tuple[int, Json, bytes]:
    return status, {"content-type": "application/json"}, json.dumps(content).encode()


def _is_service(form: Json, headers: Json) -> bool:
    wanted = base64.b64encode(f"{quote_plus(SERVICE_CLIENT)}:{quote_plus(SECRET)}".encode()).decode()
    return headers.get("authorization") == f"Basic {wanted}" and form.get("client_id") == SERVICE_CLIENT
