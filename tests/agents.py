"""An agent for tests: it joins, proves its host's key, checks and acknowledges what it is told, and touches no sshd."""

import hashlib
import ssl
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.client import Answer, Connection
from tests.hosts import signed
from tests.tunnel import Gate, dialled, exactly, trusting

from jitgate.ca.envelope import Envelope, take_envelope
from jitgate.ca.trust import PAYLOAD_MAX as TRUST_MAX
from jitgate.ca.trust import TrustList, TrustPin, open_trust, pinned_root
from jitgate.core.clock import Micros, system_clock
from jitgate.core.errors import BadInput
from jitgate.hosts import agent_wire as wire
from jitgate.hosts.agent_wire import Have, Problem
from jitgate.hosts.bundle import PAYLOAD_MAX as BUNDLE_MAX
from jitgate.hosts.bundle import Bundle, BundlePin, check_krl, krl_digest, open_bundle
from jitgate.hosts.joining import NAMESPACE, JoinToken, join_bytes, read_token, secret_hash
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import SoftwareKey, generate_ed25519

T = TypeVar("T")


@dataclass
class FakeAgent:
    """`told`: what it was told when it joined. `clock_off`: of its clock to the real one."""

    key: SoftwareKey = field(default_factory=generate_ed25519)
    clock_off: Micros = 0
    told: dict[str, Any] = field(default_factory=dict)
    token: JoinToken | None = None
    trust: TrustList | None = None
    bundle: Bundle | None = None
    krl: bytes = b""
    tls: ssl.SSLSocket | None = None
    lines: list[str] = field(default_factory=list)
    host_ca: str = ""

    @property
    def name(self) -> str:
        return str(self.told["host"]["name"])

    def clock(self) -> Micros:
        return system_clock() + self.clock_off

    # ---- joining ----

    def body(self, token: JoinToken) -> dict[str, Any]:
        now = system_clock()
        said = join_bytes(token.installation, token.realm, token.name, secret_hash(token.secret), now)
        return {
            "token": token.secret.reveal(),
            "realm": token.realm,
            "name": token.name,
            "host_key": self.key.public.line(),
            "time": now,
            "signature": signed(self.key, NAMESPACE, said),
            "facts": {},
        }

    def join(self, stranger: Connection, token: JoinToken) -> Answer:
        answer = stranger.post("/v1/hosts/join", self.body(token))
        if answer.status == 201:
            self.token, self.told = token, answer.json
            self.take_trust(take_envelope(self.told["trust"], TRUST_MAX))
            self.take_bundle(take_envelope(self.told["bundle"], BUNDLE_MAX), b64decode(self.told["krl"]))
        return answer

    def take_trust(self, envelope: Envelope) -> None:
        assert self.token
        root = pinned_root(self.told["root"], self.token.root)
        pin = TrustPin(self.token.installation, self.token.realm, root)
        self.trust = open_trust(envelope, pin, self.trust.version if self.trust else None)

    def take_bundle(self, envelope: Envelope, krl: bytes | None) -> None:
        assert self.token
        assert self.trust
        host = self.told["host"]
        pin = BundlePin(self.token.installation, self.token.realm, host["id"], host["name"], self.trust.online)
        found = open_bundle(envelope, pin, self.bundle.version if self.bundle else None)
        check_krl(found, self.krl if krl is None else krl)
        self.bundle, self.krl = found, self.krl if krl is None else krl

    # ---- the connection ----

    @property
    def have(self) -> Have:
        bundle, trust = self.bundle, self.trust
        krl = krl_digest(self.krl) if bundle else ""
        return Have(bundle.version if bundle else None, trust.version if trust else None, krl, self.host_ca)

    def connect(self, gate: Gate, *, name: str = "", key: SoftwareKey | None = None, **wrong: str) -> wire.FromService:
        """The service's answer to the hello: `Welcome` or `Refused`."""
        assert self.token
        self.close()
        self.tls = trusting(gate, wire.ALPN).wrap_socket(dialled(gate), server_hostname="127.0.0.1")
        greeting = self.read()
        assert isinstance(greeting, wire.Greeting)
        shown = hashlib.sha256(self.tls.getpeercert(binary_form=True) or b"").hexdigest()
        name = name or self.token.name
        nonce, shown = wrong.get("nonce", greeting.nonce), wrong.get("shown", shown)
        installation = wrong.get("installation", self.token.installation)
        said = wire.hello_bytes(installation, self.token.realm, name, nonce, shown)
        signature = b64decode(signed(key or self.key, wire.NAMESPACE, said))
        hello = wire.AgentHello(self.token.realm, name, "0-test", signature, self.have, self.clock())
        self.send(hello)
        return self.read()

    def send(self, message: wire.FromAgent) -> None:
        assert self.tls
        self.tls.sendall(wire.put_frame(message))

    def read(self) -> wire.FromService:
        assert self.tls
        size = wire.length_of(exactly(self.tls, 4), wire.TO_AGENT_MAX)
        return wire.take_from_service(exactly(self.tls, size))

    def obey(self, *problems: Problem) -> wire.FromService:
        """One message, done and acknowledged as an agent does."""
        message = self.read()
        try:
            if isinstance(message, wire.TrustSent):
                self.take_trust(message.unverified)
            elif isinstance(message, wire.BundleSent):
                self.take_bundle(message.unverified, message.krl)
            elif isinstance(message, wire.CertificateSent):
                self.host_ca = parse_certificate_line(message.line).body.ca.fingerprint
            else:
                return message
        except BadInput as error:
            if error.code != "same_version":
                problems = (*problems, Problem(error.code))
        self.send(wire.Ack(self.have, self.clock(), problems))
        return message

    def obey_until(self, wanted: str, tries: int = 20) -> wire.FromService:
        for _ in range(tries):
            if type(message := self.obey()).__name__ == wanted:
                return message
        raise AssertionError(f"no {wanted} came")

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        assert self.tls
        self.tls.settimeout(seconds)
        try:
            self.obey()
        except TimeoutError:
            return True
        finally:
            self.tls.settimeout(20)
        return False

    def is_hung_up_on(self) -> bool:
        assert self.tls
        try:
            while self.tls.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        if self.tls is not None:
            self.tls.close()


def invited(admin: Connection, name: str, **more: Any) -> JoinToken:
    answer = admin.post("/v1/hosts/tokens", {"name": name, "logins": ["ubuntu"], **more})
    assert answer.status == 201, answer
    return read_token(answer.json["token"])


def eventually(look: Callable[[], T], seconds: float = 15) -> T:
    """What is seen, as soon as it is true, or when the time is over: the caller asserts it."""
    until = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def row(admin: Connection, agent: FakeAgent) -> dict[str, Any]:
    """What the service says of this agent's host."""
    hosts = admin.get("/v1/hosts/agents").json["hosts"]
    found: dict[str, Any] = next(each for each in hosts if each["name"] == agent.name)
    return found


def revoke_key(admin: Connection) -> None:
    """Somebody's; of which every agent is told."""
    answer = admin.post("/v1/revocations", {"what": "key", "subject": generate_ed25519().public.line()})
    assert answer.status == 201, answer


def joined(admin: Connection, name: str, **more: Any) -> FakeAgent:
    """A new host that has joined."""
    agent = FakeAgent()
    answer = agent.join(admin, invited(admin, name, **more))
    assert answer.status == 201, answer
    return agent


def told_of_a_revocation(agent: FakeAgent, admin: Connection) -> None:
    """Somebody's key is revoked, and the agent has obeyed the list that says so: other bundles may come before it."""
    before = agent.krl
    revoke_key(admin)
    while agent.krl == before:
        agent.obey_until("BundleSent")


def come(agent: FakeAgent, gate: Gate) -> None:
    """It connects, and takes all that there is."""
    assert isinstance(agent.connect(gate), wire.Welcome)
    agent.obey_until("BundleSent")


@contextmanager
def at_work(gate: Gate, admin: Connection, of: str, **more: Any) -> Iterator[FakeAgent]:
    """The agent of a new host, connected; `of`: the test whose own it is, from which it has its name."""
    agent = joined(admin, f"h{abs(hash(of)) % 10**9}", **{"labels": {"tier": "web"}, **more})
    come(agent, gate)
    try:
        yield agent
    finally:
        agent.close()
