"""A jitgate service made of canned answers, on loopback, for the client's tests only: it decides nothing.

It checks what a real one checks of a request (token, proof), signs real certificates, and can be told to misbehave.
"""

import json
import ssl
import sys
import threading
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jitgate.core.clock import MINUTE, SECOND, rfc3339, system_clock
from jitgate.identity.nonce import nonce_for
from jitgate.identity.proof import ProofClaim, verify_proof
from jitgate.ssh.cert import Certificate, CertificateBody, CertType, join, to_be_signed
from jitgate.ssh.private import SoftwareKey, generate_ed25519
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

PERSON = "01J8Z0K3V4WQ2M5N6P7R8S9TAA"
GRANT = "01J8Z0K3V4WQ2M5N6P7R8S9TGG"
KEY = "01J8Z0K3V4WQ2M5N6P7R8S9TKK"
TOKEN = "jgs_" + "t" * 43
PASSWORD = "correct horse battery staple"
CODE = "123456"

Json = dict[str, Any]
Answer = tuple[int, Json | bytes] | tuple[int, Json | bytes, Mapping[str, str]]


class FakeService:
    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.user_ca, self.host_ca = generate_ed25519(), generate_ed25519()
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.keys: list[PublicKey] = []
        self.granted: list[Json] = []
        self.clock_error = 0  # seconds that this service's clock is wrong
        self.identities: list[Json] = [
            {"id": KEY, "provider": "dex", "issuer": "https://idp", "subject": "u-1", "linked_at": in_minutes(-60)}
        ]
        self.hosts = [self.host("web1", "ubuntu"), self.host("db1")]
        self.provider: Json = {}
        """The identity provider that it names, as a row of `/.well-known/jitgate`; empty: none."""
        self.device_answers: list[Answer] = []
        """What it says, one after the other, to who waits in a device flow."""
        self.instead: dict[str, Callable[[Json], Answer]] = {}
        """Misbehaviour: "METHOD /path" -> what is answered."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.answer(self, b"")

            def do_DELETE(self) -> None:
                service.answer(self, b"")

            def do_POST(self) -> None:
                service.answer(self, self.rfile.read(int(self.headers.get("content-length", "0"))))

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate((timestamp or system_clock() / SECOND) + service.clock_error, usegmt=True)

            def log_message(self, *words: object) -> None: ...

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exception(), OSError):  # a client that has heard enough hangs up
                    super().handle_error(request, client_address)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # --- what it answers ---

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path, _, query = handler.path.partition("?")
        self.requests.append((handler.command, handler.path, dict(handler.headers), body))
        route = f"{handler.command} {path}"
        document: Json = json.loads(body) if body else dict(p.split("=", 1) for p in query.split("&") if p)
        refusal = self._refusal(handler, path, body, document)
        chosen = self.instead.get(route)
        found: Answer = refusal or (chosen(document) if chosen else self._routes(route, document))
        status, content, more = (*found, {})[:3]
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **more}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)

    def _refusal(self, handler: BaseHTTPRequestHandler, path: str, body: bytes, document: Json) -> Answer | None:
        if path.startswith("/.well-known/"):
            return None
        sign_in = path.startswith("/v1/sign-in")
        if not sign_in and handler.headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(401, "not_signed_in", "this needs a sign-in")
        if handler.command == "GET":
            return None
        claim = ProofClaim(
            self.url,
            document.get("name", f"oidc:{self.provider.get('name')}") if sign_in else PERSON,
            handler.command,
            handler.path,
            body,
            int(handler.headers["jitgate-time"]),
        )
        proofs = [handler.headers[name] for name in ("jitgate-proof", "jitgate-key-proof") if handler.headers[name]]
        self.keys = [
            verify_proof(b64decode(proof), claim, origins=frozenset({self.url}), now=system_clock()) for proof in proofs
        ]
        return None

    def _routes(self, route: str, document: Json) -> Answer:
        routes: dict[str, Callable[[Json], Answer]] = {
            "GET /.well-known/jitgate": self._about,
            "POST /v1/sign-in": self._sign_in,
            "POST /v1/sign-in/oidc": self._signed_in,
            "POST /v1/sign-in/device": self._device,
            f"POST /v1/sign-in/device/{KEY}": lambda _: self.device_answers.pop(0),
            "GET /v1/identities": lambda _: (200, {"identities": self.identities}),
            "POST /v1/identities": lambda _: (201, self.identities[0]),
            f"DELETE /v1/identities/{KEY}": lambda _: (204, b""),
            "POST /v1/sign-out": lambda _: (204, b""),
            "GET /v1/me": self._me,
            "GET /v1/hosts": lambda _: (200, {"hosts": self.hosts}),
            "GET /v1/grants": lambda _: (200, {"grants": self.granted}),
            "POST /v1/grants": self._grant,
            f"POST /v1/grants/{GRANT}/end": self._end,
            "POST /v1/certificates": lambda _: (201, {"certificate": self.certificate(self.keys[0]).line()}),
            "GET /v1/keys": lambda _: (200, {"keys": []}),
            "POST /v1/keys": lambda _: (201, {"id": KEY, "fingerprint": self.keys[1].fingerprint}),
            f"DELETE /v1/keys/{KEY}": lambda _: (204, b""),
        }
        if route not in routes:
            return problem(404, "not_found", f"no such address: {route}")
        return routes[route](document)

    def _about(self, _: Json) -> Answer:
        realm = {"name": "default", "user_ca": [self.user_ca.public.line()], "host_ca": [self.host_ca.public.line()]}
        about = {"name": "jitgate", "url": self.url, "version": "0.1.0", "realms": [realm]}
        ways = {"sign_in": ["local", "oidc"], "providers": [self.provider]} if self.provider else {}
        return 200, about | ways

    def _sign_in(self, document: Json) -> Answer:
        if (document["password"], document["code"]) != (PASSWORD, CODE):
            return problem(401, "sign_in_refused", "name, password or code is wrong", "try again")
        key = parse_public_key_line(document["key"])[0]
        assert key == self.keys[0]
        person = self.person(document["name"])
        key_row = {"id": KEY, "fingerprint": key.fingerprint}
        return 201, {"token": TOKEN, "expires_at": in_minutes(480), "person": person, "key": key_row}

    def _signed_in(self, document: Json) -> Answer:
        key = parse_public_key_line(document["key"])[0]
        assert key == self.keys[0]
        claims = json.loads(urlsafe_b64decode(document["id_token"].split(".")[1] + "=="))
        assert claims["nonce"] == nonce_for(self.url, document["provider"], key.fingerprint, document["salt"])
        return self.signed_in_as("alice")

    def signed_in_as(self, name: str) -> Answer:
        key = {"id": KEY, "fingerprint": self.keys[0].fingerprint}
        return 201, {"token": TOKEN, "expires_at": in_minutes(480), "person": self.person(name), "key": key}

    def _device(self, document: Json) -> Answer:
        assert parse_public_key_line(document["key"])[0] == self.keys[0]
        page = {"user_code": "WDJB-MJHT", "verification_uri": "https://idp.example.com/device"}
        return 201, {"id": KEY, "expires_at": in_minutes(5), "interval": 5} | page

    def _me(self, _: Json) -> Answer:
        factors = [{"factor": factor, "at": in_minutes(-5)} for factor in ("password", "totp")]
        sign_in = {"id": KEY, "factors": factors, "created_at": in_minutes(-5), "expires_at": in_minutes(480)}
        return 200, {"person": self.person("alice"), "sign_in": sign_in}

    def _grant(self, document: Json) -> Answer:
        if document["host"] not in ("web1", "db1"):
            return problem(404, "not_found", f"no host {document['host']!r}", "jitctl vm ls")
        if document["host"] != "web1":
            why, hint = "not in group dba", "be a member of group dba"
            checks = [
                {"name": "host", "outcome": "passed", "why": "db1 is in env=prod", "hint": ""},
                {"name": "person", "outcome": "failed", "why": why, "hint": hint},
            ]
            return problem(403, "no_role", why, hint, checks)
        grant = self.grant(document["host"], document.get("login", "ubuntu"), document.get("reason", ""))
        self.granted.append(grant)
        return 201, {"grant": grant}

    def _end(self, _: Json) -> Answer:
        return 200, {
            "grant": self.granted.pop(),
            "certificates": [{"serial": "77", "valid_before": in_minutes(15)}],
        }

    def person(self, name: str) -> Json:
        return {"id": PERSON, "name": name, "groups": ["ops"], "admin": False}

    def host(self, name: str, *logins: str, **changes: object) -> Json:
        allowed = [{"login": login, "role": "ops-web", "permitted": True, "why": ""} for login in logins]
        refused = [{"login": "root", "role": "dba", "permitted": False, "why": "not in group dba"}]
        host: Json = {"name": name, "realm": "default", "alias": f"{name}.default.jitgate", "labels": {"env": "prod"}}
        host |= {"address": "127.0.0.1", "port": 2222, "logins": allowed or refused}
        return host | changes

    def grant(self, host: str, login: str, reason: str = "") -> Json:
        return {
            "id": GRANT,
            "person": "alice",
            "role": "ops-web",
            "host": host,
            "login": login,
            "reason": reason,
            "opened_at": in_minutes(0),
            "ends_at": in_minutes(60),
            "ended_at": None,
            "end_reason": None,
            "state": "active",
        }

    def certificate(
        self, key: PublicKey, *, ca: SoftwareKey | None = None, seconds: int = 900, **changes: Any
    ) -> Certificate:
        now = system_clock() // SECOND
        fields: Json = {
            "type": CertType.USER,
            "key": key,
            "serial": 8812734,
            "key_id": f"jitgate grant={GRANT} person=alice",
            "principals": ("ubuntu@host:web1",),
            "valid_after": now - 30,
            "valid_before": now + seconds,
            "critical_options": (),
            "extensions": (("permit-pty", ""),),
            "ca": (ca or self.user_ca).public,
        }
        tbs = to_be_signed(CertificateBody(**(fields | changes)), bytes(32))
        return join(tbs, (ca or self.user_ca).sign(tbs))


def problem(status: int, code: str, detail: str, hint: str = "", checks: list[Json] | None = None) -> Answer:
    content: Json = {"type": f"urn:jitgate:problem:{code}", "title": code, "status": status, "code": code}
    content |= {"detail": detail, "hint": hint, "request_id": KEY} | ({"checks": checks} if checks else {})
    return status, content, {"Content-Type": "application/problem+json"}


def in_minutes(minutes: int) -> str:
    return rfc3339(system_clock() + minutes * MINUTE)
