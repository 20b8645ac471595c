"""A client for tests: it signs its requests as jitctl does, and can get every part of that wrong on purpose."""

import base64
import json
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from jitgate.core.clock import Clock, Micros, system_clock
from jitgate.core.secret import Secret
from jitgate.identity import totp
from jitgate.identity.proof import ProofClaim, make_proof
from jitgate.ssh.private import SoftwareKey, generate_ed25519

Json = dict[str, Any]
PASSWORD = "Correct-Horse-7-Battery"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        found: Json = json.loads(self.body)
        return found

    @property
    def code(self) -> str:
        """The problem's code; empty for an answer that is none."""
        return str(self.json.get("code", "")) if "problem" in self.headers.get("content-type", "") else ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Signer:
    """Who asks. `token` and `person_id` are empty until they have signed in."""

    origin: str
    key: SoftwareKey = field(default_factory=generate_ed25519)
    clock: Clock = system_clock
    token: str = ""
    person_id: str = ""

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        subject: str | None = None,
        new_key: SoftwareKey | None = None,
        signed: Mapping[str, Any] | None = None,
    ) -> Call:
        """A signed request. `signed`: what is signed instead of what is sent: `origin method path body time key`.

        A header given as "" is left out. `new_key` signs too, as the registration of another key asks.
        """
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        wrong = dict(signed or {})
        claim = ProofClaim(
            wrong.get("origin", self.origin),
            (self.person_id or "stranger") if subject is None else subject,
            wrong.get("method", method),
            wrong.get("path", path),
            wrong.get("body", raw),
            wrong.get("time", self.clock()),
        )
        said = {
            "host": urlsplit(self.origin).netloc,
            "content-type": "application/json" if raw else "",
            "authorization": f"Bearer {self.token}" if self.token else "",
            "jitgate-time": str(claim.time),
            "jitgate-proof": proof(claim, wrong.get("key", self.key)),
            "jitgate-key-proof": proof(claim, new_key) if new_key else "",
        } | dict(headers or {})
        return Call(method, path, {name: value for name, value in said.items() if value}, raw)

    def sign_in(
        self, name: str, password: str, code: str, *, subject: str = "", sent: SoftwareKey | None = None, **wrong: Any
    ) -> Call:
        """The request that signs somebody in with this key. `sent`: another key that is sent in its place."""
        line = (sent or self.key).public.line("test@laptop")
        body = {"name": name, "password": password, "code": code, "key": line}
        return self.call("POST", "/v1/sign-in", body, subject=subject or name, **wrong)

    def signed_in(self, answer: Answer) -> None:
        """Keep what a sign-in gave."""
        self.token, self.person_id = answer.json["token"], answer.json["person"]["id"]


def proof(claim: ProofClaim, key: SoftwareKey) -> str:
    return base64.b64encode(make_proof(claim, key.public, key.sign)).decode()


def code(secret: str, now: Micros, *, steps: int = 0) -> str:
    """The one-time code of a base-32 secret; `steps` later (or earlier) ones than that of now."""
    return totp.code_at(Secret(base64.b32decode(secret)), now // totp.STEP + steps).reveal()


@dataclass(slots=True)
class Connection:
    """A person at a running service: one connection that is kept open, and opened again when it was closed.

    `dial` makes it, where it is not plain TCP to the url.
    """

    url: str
    signer: Signer
    timeout: float = 30.0
    dial: Callable[[], socket.socket] | None = None
    _http: HTTPConnection | None = None

    def send(self, call: Call) -> Answer:
        """Raises `OSError` or `http.client.HTTPException` when the service goes away."""
        try:
            self.begin(call)
            return self.answer()
        except BaseException:
            self.close()
            raise

    def begin(self, call: Call) -> None:
        """Send the request, and do not wait for the answer."""
        if self._http is None:
            self._http = HTTPConnection(urlsplit(self.url).netloc, timeout=self.timeout)
            if self.dial is not None:
                self._http.sock = self.dial()
        self._http.putrequest(call.method, call.path, skip_host=True, skip_accept_encoding=True)
        for name, value in call.headers.items():
            self._http.putheader(name, value)
        if call.method == "POST" or call.body:
            self._http.putheader("content-length", str(len(call.body)))
        self._http.endheaders(call.body)

    def answer(self) -> Answer:
        """The answer to what was begun."""
        assert self._http is not None
        response = self._http.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        if response.will_close:
            self.close()
        return answer

    def get(self, path: str, **wrong: Any) -> Answer:
        return self.send(self.signer.call("GET", path, **wrong))

    def post(self, path: str, body: object = None, **wrong: Any) -> Answer:
        return self.send(self.signer.call("POST", path, {} if body is None else body, **wrong))

    def delete(self, path: str, **wrong: Any) -> Answer:
        return self.send(self.signer.call("DELETE", path, **wrong))

    def sign_in(self, name: str, totp_secret: str, password: str = PASSWORD, *, steps: int = 0) -> Answer:
        typed = code(totp_secret, self.signer.clock(), steps=steps)
        answer = self.send(self.signer.sign_in(name, password, typed))
        if answer.status == 201:
            self.signer.signed_in(answer)
        return answer

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
        self._http = None


def somebody() -> str:
    """A person's name that no other test uses."""
    return f"p{secrets.token_hex(6)}"
