"""A service as a host's agent sees it, in this process: it lets hosts join, and holds their connections.

Formats, signatures and TLS are the real ones; there is no database behind it, so that a test says what the service
says, and when. The keys are those of tests.unit.agent.trusts.

    python -m tests.enroller FOLDER HOST LOGIN...   with the keys FOLDER/{user,host}_ca; writes FOLDER/token, and
                                                    revokes serial 7 and lists one more user CA key at
                                                    SIGUSR1
"""

import asyncio
import base64
import hashlib
import json
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.unit.agent.trusts import HOST_CA, USER_CA, certify

from jitgate.app.settings import Settings
from jitgate.app.tls import authority_pem, load_certificate, make_authority
from jitgate.ca import trust as trust_list
from jitgate.ca.envelope import Envelope, make_envelope, signed_message
from jitgate.ca.trust import TrustList, trust_payload
from jitgate.core.clock import DAY, system_clock
from jitgate.core.ids import new_id
from jitgate.core.secret import Secret
from jitgate.hosts import agent_wire, bundle
from jitgate.hosts.agent_wire import (
    Ack,
    AgentHello,
    BundleSent,
    CertificateSent,
    FromAgent,
    FromService,
    Greeting,
    Ping,
    Pong,
    Refused,
    Renew,
    TrustSent,
    Welcome,
    hello_bytes,
    length_of,
    put_frame,
    take_from_agent,
)
from jitgate.hosts.bundle import Bundle, bundle_payload, krl_digest
from jitgate.hosts.joining import NAMESPACE, JoinToken, join_bytes, secret_hash, write_token
from jitgate.ssh import sshsig
from jitgate.ssh.cert import CertType
from jitgate.ssh.krl import Certificates, Krl, dump_krl
from jitgate.ssh.krl_serials import Serials
from jitgate.ssh.private import SoftwareKey, generate_ed25519, load_private_key
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line
from jitgate.ssh.wire import Reader

ALIAS = "{0}.default.jitgate"


def seal(domain: bytes, payload: bytes, key: SoftwareKey) -> Envelope:
    """Signed as the signer signs: raw ed25519."""
    reader = Reader(key.sign(signed_message(domain, payload)))
    reader.string()
    return make_envelope(domain, payload, key.public, reader.string())


def krl_of(*serials: int, ca: PublicKey = USER_CA.public, keys: Iterable[PublicKey] = ()) -> bytes:
    certificates = {ca.blob: Certificates(Serials((one, one) for one in serials))} if serials else {}
    return dump_krl(Krl(certificates=certificates, keys=frozenset(key.blob for key in keys)))


@dataclass(slots=True)
class Enroller:
    """`trust` and `bundle` are what hosts are told; change them by `publish`."""

    folder: Path
    host: str
    logins: tuple[str, ...]
    user_ca: SoftwareKey = USER_CA
    host_ca: SoftwareKey = HOST_CA
    root: SoftwareKey = field(default_factory=generate_ed25519)
    online: SoftwareKey = field(default_factory=generate_ed25519)
    secret: Secret[str] = field(default_factory=lambda: Secret(os.urandom(32).hex()))
    lasts: int = 3600
    joins: int = 0
    pending: bool = False
    refuse: Refused | None = None
    clock_off: int = 0
    acks: list[Ack] = field(default_factory=list)
    said: list[FromAgent] = field(default_factory=list)
    seen: threading.Condition = field(default_factory=threading.Condition)
    forge: Callable[[dict[str, Any]], None] = field(default=lambda _: None)
    host_key: PublicKey | None = None
    ports: list[int] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)
    trust: TrustList = field(init=False)
    bundle: Bundle = field(init=False)
    krl: bytes = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _writers: dict[asyncio.StreamWriter, int] = field(default_factory=dict)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _tls: ssl.SSLContext = field(init=False)
    _http: ThreadingHTTPServer = field(init=False)
    settings: Settings = field(init=False)

    def __enter__(self) -> Self:
        now, installation, host_id = system_clock(), new_id(system_clock(), os.urandom), new_id(1, os.urandom)
        self.krl = krl_of()
        self.trust = TrustList(
            installation, "default", (1, 1), now, (self.user_ca.public,), (self.host_ca.public,), (), self.online.public
        )
        version, ends = (1, 1, now), now + 7 * DAY
        self.bundle = Bundle(installation, "default", host_id, self.host, version, now, ends, krl_digest(self.krl))
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        state = self.folder / "enroller"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = Settings(state=state, url=f"https://127.0.0.1:{self._http.server_port}")
        make_authority(self.settings, now)
        web = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_certificate(web, self.settings, now)
        self._http.socket = web.wrap_socket(self._http.socket, server_side=True)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls.set_alpn_protocols([agent_wire.ALPN])
        load_certificate(self._tls, self.settings, now)
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.open_gateways()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self.close_gateways()
        self._loop.call_soon_threadsafe(self._loop.stop)
        while self._loop.is_running():
            time.sleep(0.01)
        self._loop.close()

    def open_gateways(self) -> None:
        """Two, on ports of their own; the same ones again after `close_gateways`."""
        self._do(self._open(list(self.ports) or [0, 0]))

    def close_gateways(self, *, only: int | None = None) -> None:
        """All, or the one of that index, with their connections."""
        self._do(self._close(only))

    def token(self) -> str:
        der = ssl.PEM_cert_to_DER_cert(authority_pem(self.settings).decode().strip())
        pin = f"sha256={hashlib.sha256(der).hexdigest()}"
        trust = self.trust
        return write_token(
            JoinToken(
                self.settings.url,
                trust.installation,
                trust.realm,
                self.host,
                self.root.public.fingerprint,
                pin,
                self.secret,
            )
        ).reveal()

    def trust_envelope(self) -> Envelope:
        return seal(trust_list.DOMAIN, trust_payload(self.trust), self.root)

    def bundle_envelope(self) -> Envelope:
        return seal(bundle.DOMAIN, bundle_payload(self.bundle), self.online)

    def revoke(self, *serials: int, epoch: int | None = None, **changed: object) -> Bundle:
        """A newer bundle whose list holds these serials, sent to whoever is connected."""
        now = max(system_clock(), self.bundle.made_at + 1)
        self.krl = krl_of(*serials, ca=self.user_ca.public)
        before = self.bundle.version
        version = (epoch or before[0], 1 if epoch else before[1] + 1, now)
        fields: dict[str, Any] = {"version": version, "made_at": now, "expires_at": now + 7 * DAY, **changed}
        self.bundle = replace(self.bundle, krl=krl_digest(self.krl), **fields)
        self.send(BundleSent(self.bundle_envelope(), self.krl))
        return self.bundle

    def list_keys(self, *user: PublicKey, **changed: Any) -> TrustList:
        """A newer trust list, sent to whoever is connected."""
        version = (self.trust.version[0], self.trust.version[1] + 1)
        self.trust = replace(self.trust, version=version, user=user or self.trust.user, **changed)
        self.send(TrustSent(self.trust_envelope()))
        return self.trust

    def send(self, message: FromService) -> None:
        async def act() -> None:
            for writer in list(self._writers):
                writer.write(put_frame(message))

        self._do(act())

    def wait(self, what: Callable[[], object], seconds: float = 30) -> None:
        """Until it is so; told of each message that comes in."""
        with self.seen:
            assert self.seen.wait_for(what, seconds), (self.acks[-1:], self.said[-3:])

    def connected(self) -> int:
        return len(self._writers)

    def acked(self, version: object) -> bool:
        """Whether the newest acknowledgement names this bundle's or trust list's version."""
        return bool(self.acks) and version in (self.acks[-1].have.bundle, self.acks[-1].have.trust)

    def problem(self, code: str) -> bool:
        return bool(self.acks) and code in [each.code for each in self.acks[-1].problems]

    def certificate(self) -> str:
        assert self.host_key
        names = (ALIAS.format(self.host), self.host)
        made = certify(self.host_ca, CertType.HOST, self.host_key, names, lasts=self.lasts).line()
        self.certificates.append(made)
        return made

    def joined(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The answer to a join."""
        if asked.get("provider"):
            assert (asked["token"], asked["provider"], asked["id_token"]) == ("", "corp", "header.claims.signature")
            token_hash = secret_hash(Secret(asked["id_token"]))
        elif secret_hash(Secret(asked["token"])) != secret_hash(self.secret):
            return 403, {"detail": "the token is not known", "hint": "ask for another", "code": "join_token"}
        else:
            token_hash = secret_hash(self.secret)
        self.host_key = parse_public_key_line(asked["host_key"])[0]
        message = join_bytes(self.trust.installation, asked["realm"], asked["name"], token_hash, asked["time"])
        assert sshsig.verify(base64.b64decode(asked["signature"]), NAMESPACE, message) == self.host_key
        if self.pending:
            return 202, {"state": "pending"}
        self.joins += 1
        answer = {
            "host": {
                "id": self.bundle.host_id,
                "name": self.host,
                "realm": "default",
                "alias": ALIAS.format(self.host),
                "logins": list(self.logins),
            },
            "root": self.root.public.line(),
            "certificate": self.certificate(),
            "trust": self.trust_envelope().json(),
            "bundle": self.bundle_envelope().json(),
            "krl": base64.b64encode(self.krl).decode(),
            "gateways": [{"address": "127.0.0.1", "port": port, "server_name": "127.0.0.1"} for port in self.ports],
            "url": self.settings.url,
        }
        self.forge(answer)
        return 201, answer

    def _do(self, act: Any) -> Any:
        task: Future[Any] = asyncio.run_coroutine_threadsafe(act, self._loop)
        return task.result(20)

    async def _open(self, ports: list[int]) -> None:
        self.ports = []
        for index, port in enumerate(ports):

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, index: int = index) -> None:
                with suppress(OSError, EOFError):
                    await self._serve(reader, writer, index)
                self._writers.pop(writer, None)
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=self._tls)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    async def _close(self, only: int | None) -> None:
        for index, server in enumerate(self._servers):
            if only in (None, index):
                server.close()
        for writer, index in list(self._writers.items()):
            if only in (None, index):
                writer.transport.abort()
        if only is None:
            self._servers = []
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, index: int) -> None:
        nonce = os.urandom(32).hex()
        writer.write(put_frame(Greeting(nonce)))
        hello = await _frame(reader)
        assert isinstance(hello, AgentHello)
        der = ssl.PEM_cert_to_DER_cert(
            (self.settings.state / "tls/server.pem").read_text().split("-----END")[0] + "-----END CERTIFICATE-----\n"
        )
        said = hello_bytes(self.trust.installation, "default", self.host, nonce, hashlib.sha256(der).hexdigest())
        assert sshsig.verify(hello.signature, agent_wire.NAMESPACE, said) == self.host_key
        self._note(hello)
        if self.refuse:
            writer.write(put_frame(self.refuse))
            return
        writer.write(put_frame(Welcome(system_clock() + self.clock_off)))
        if hello.have.trust != self.trust.version:
            writer.write(put_frame(TrustSent(self.trust_envelope())))
        if hello.have.bundle != self.bundle.version:
            same = hello.have.krl == self.bundle.krl
            writer.write(put_frame(BundleSent(self.bundle_envelope(), None if same else self.krl)))
        self._writers[writer] = index
        while True:
            message = await _frame(reader)
            self._note(message)
            if isinstance(message, Renew):
                writer.write(put_frame(CertificateSent(self.certificate())))
            if isinstance(message, Ping):
                writer.write(put_frame(Pong(system_clock() + self.clock_off)))

    def _note(self, message: FromAgent) -> None:
        with self.seen:
            self.said.append(message)
            if isinstance(message, Ack):
                self.acks.append(message)
            self.seen.notify_all()


async def _frame(reader: asyncio.StreamReader) -> FromAgent:
    size = length_of(await reader.readexactly(4), agent_wire.FROM_AGENT_MAX)
    return take_from_agent(await reader.readexactly(size))


def _handler(enroller: Enroller) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, authority_pem(enroller.settings))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = enroller.joined(asked)
            self._answer(status, json.dumps(answer).encode())

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    return Handler


def main() -> None:
    folder, host, *logins = sys.argv[1:]
    user, host_ca = (load_private_key((Path(folder) / name).read_bytes()) for name in ("user_ca", "host_ca"))
    with Enroller(Path(folder), host, tuple(logins), user, host_ca) as enroller:

        def revoke(*_: object) -> None:
            enroller.revoke(7)
            enroller.list_keys(user.public, generate_ed25519().public)

        signal.signal(signal.SIGUSR1, revoke)
        file = Path(folder) / "token"
        new = file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(enroller.token() + "\n")
        new.replace(file)
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
