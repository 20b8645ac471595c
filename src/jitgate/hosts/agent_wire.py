"""What an agent and the service say to each other: frames of a length (uint32, big-endian) and so much JSON.

The service begins with a nonce; the agent answers with a signature by its host key over it and over the certificate
that the service showed, so that nobody in between can use the answer elsewhere. After the welcome the service sends the
trust list and the bundle whenever there is a newer one; the agent acknowledges each, pings, and reports.

What an agent sends that is not here is refused and ends its connection; what the service sends that is not here comes
as `Unknown`: the agent goes on and reports it, for services are newer than agents.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from jitgate.ca.envelope import Envelope, take_envelope
from jitgate.ca.trust import PAYLOAD_MAX as TRUST_MAX
from jitgate.ca.trust import TrustVersion
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.fields import Fields, read_json
from jitgate.core.ids import is_id
from jitgate.core.text import check_name
from jitgate.hosts.bundle import KRL_MAX, BundleVersion, is_digest
from jitgate.hosts.bundle import PAYLOAD_MAX as BUNDLE_MAX
from jitgate.ssh.material import FINGERPRINT
from jitgate.ssh.sshsig import MAX_BLOB
from jitgate.ssh.wire import FormatError, from_base64, to_base64

ALPN: Final = "jitgate-agent/1"
DIALBACK_ALPN: Final = "jitgate-dialback/1"
NAMESPACE: Final = "jitgate-agent@v1"
"""Of the SSHSIG by which an agent proves its host key."""

TO_AGENT_MAX: Final = 16 << 20  # bytes of a frame: the largest KRL and bundle in base64 take 14.5 MB
FROM_AGENT_MAX: Final = 64 << 10
HELLO_MAX: Final = 8 << 10  # bytes of the first frame from somebody who has proved nothing
PING_S: Final = 20.0  # the agent pings so often, with a tenth of jitter either way
SILENCE_S: Final = 65.0  # three pings missed: either side closes
MESSAGES: Final = 1200  # that a service takes of one agent at once, and again in a minute; more and it hangs up
REPORTS_A_MINUTE: Final = MESSAGES // 2  # of these an agent uses for logins; the rest is for pings and acknowledgements
CLOCK_MAX: Final[Micros] = 60_000_000  # a clock further off than this is reported
PROBLEMS_MAX: Final = 32
_LENGTH: Final = 4
_WORDS: Final = 300  # characters of a problem's or a refusal's text
_VERSION: Final = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """Something on the host that is not as it should be. `code`: a stable word."""

    code: str
    detail: str = ""


# ---- from the service ----


@dataclass(frozen=True, slots=True)
class Greeting:
    """The service's first frame. `nonce`: 64 hexadecimal digits."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Welcome:
    clock: Micros


@dataclass(frozen=True, slots=True)
class Refused:
    """The service's last frame."""

    code: str
    detail: str
    hint: str


@dataclass(frozen=True, slots=True)
class TrustSent:
    unverified: Envelope


@dataclass(frozen=True, slots=True)
class BundleSent:
    """`krl`: the KRL that the bundle names, or None when it is the one that the agent has acknowledged already."""

    unverified: Envelope
    krl: bytes | None


@dataclass(frozen=True, slots=True)
class CertificateSent:
    line: str


@dataclass(frozen=True, slots=True)
class Dial:
    """Open one connection back, with this id and secret, to be joined to the local sshd."""

    id: str
    secret: str = field(repr=False)
    expires_at: Micros


@dataclass(frozen=True, slots=True)
class Pong:
    clock: Micros


@dataclass(frozen=True, slots=True)
class Unknown:
    type: str


FromService = Greeting | Welcome | Refused | TrustSent | BundleSent | CertificateSent | Dial | Pong | Unknown

# ---- from the agent ----


@dataclass(frozen=True, slots=True)
class Have:
    """What the agent has applied. `krl`: SHA-256 of the KRL, lower-case hex, or empty. `host_ca`: the fingerprint of
    the key that signed the certificate which sshd shows, or empty."""

    bundle: BundleVersion | None = None
    trust: TrustVersion | None = None
    krl: str = ""
    host_ca: str = ""


@dataclass(frozen=True, slots=True)
class AgentHello:
    """`signature`: an SSHSIG blob over `hello_bytes`."""

    unverified_realm: str
    unverified_host: str
    agent: str
    signature: bytes
    have: Have
    clock: Micros


@dataclass(frozen=True, slots=True)
class Ack:
    """Sent after each trust list and bundle, applied or not, and when the problems change."""

    have: Have
    applied_at: Micros
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Renew:
    """Asks for a new host certificate."""


@dataclass(frozen=True, slots=True)
class Ping:
    clock: Micros


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened on the host. `fields`: as its type says, each bounded here only in size."""

    type: str
    fields: Mapping[str, object]


FromAgent = AgentHello | Ack | Renew | Ping | Report
REPORTS: Final = frozenset({"login", "logout", "left_behind", "alarm"})
"""Types of reports; their fields are checked by who takes them."""


def hello_bytes(installation: str, realm: str, host: str, nonce: str, certificate_sha256: str) -> bytes:
    """What the host key signs; the last: SHA-256 of the service's TLS certificate (DER), lower-case hex."""
    return f"jitgate-agent-v1\n{installation}\n{realm}\n{host}\n{nonce}\n{certificate_sha256}\n".encode("ascii")


def put_frame(message: FromService | FromAgent) -> bytes:
    data = json.dumps(_json(message), ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return len(data).to_bytes(_LENGTH, "big") + data


def bundle_frame(envelope: Envelope, krl: bytes | None) -> list[bytes]:
    """`put_frame(BundleSent(...))` in parts. `krl`: in base64, so that one copy of it serves all agents."""
    beside = [] if krl is None else [b',"krl":"', krl, b'"']
    said = json.dumps(envelope.json(), ensure_ascii=True, separators=(",", ":")).encode("ascii")
    parts = [b'{"type":"bundle","envelope":', said, *beside, b"}"]
    return [sum(map(len, parts)).to_bytes(_LENGTH, "big"), *parts]


def length_of(head: bytes, most: int) -> int:
    """Of a frame whose first four bytes are `head`; `BadInput` for an empty one and one of more than `most` bytes."""
    size = int.from_bytes(head, "big")
    if len(head) != _LENGTH or not 0 < size <= most:
        raise BadInput(f"a frame of {size} bytes", f"from 1 to {most}", code="malformed")
    return size


def take_from_service(unverified: bytes) -> FromService:
    """`BadInput` (`malformed`) for what no service sends; a type that is not known is `Unknown`."""
    fields = Fields(read_json(unverified, "a message"), "a message")
    match fields.text("type", 32):
        case "hello":
            fields.number("v", 1, 1)
            found: FromService = Greeting(_digest(fields, "nonce"))
        case "welcome":
            found = Welcome(fields.number("clock"))
        case "refused":
            found = Refused(fields.text("code", 64), fields.text("detail", _WORDS), fields.text("hint", _WORDS))
        case "trust":
            found = TrustSent(take_envelope(fields.take("envelope"), TRUST_MAX))
        case "bundle":
            krl = _base64(fields, "krl", KRL_MAX) if fields.has("krl") else None
            fields.skip("krl")
            found = BundleSent(take_envelope(fields.take("envelope"), BUNDLE_MAX), krl)
        case "certificate":
            found = CertificateSent(fields.text("line", 1 << 15))
        case "dial":
            found = Dial(_id(fields, "id"), _digest(fields, "secret"), fields.number("expires_at"))
        case "pong":
            found = Pong(fields.number("clock"))
        case other:
            return Unknown(other)
    fields.end()
    return found


def take_from_agent(unverified: bytes) -> FromAgent:
    """`BadInput` (`malformed`) for what no agent sends."""
    fields = Fields(read_json(unverified, "a message"), "a message")
    kind = fields.text("type", 32)
    if kind in REPORTS:
        return Report(kind, fields.rest())
    match kind:
        case "hello":
            fields.number("v", 1, 1)
            found: FromAgent = AgentHello(
                unverified_realm=check_name("realm", fields.text("realm", 32)),
                unverified_host=check_name("host", fields.text("host", 63)),
                agent=_words(fields, "agent", _VERSION),
                signature=_base64(fields, "signature", MAX_BLOB),
                have=_take_have(fields.take("have")),
                clock=fields.number("clock"),
            )
        case "ack":
            problems = fields.each("problems", PROBLEMS_MAX, _take_problem)
            found = Ack(_take_have(fields.take("have")), fields.number("applied_at"), tuple(problems))
        case "renew":
            found = Renew()
        case "ping":
            found = Ping(fields.number("clock"))
        case _:
            raise BadInput("a message of an unknown type", "the agent is newer than the service", code="malformed")
    fields.end()
    return found


def _json(message: FromService | FromAgent) -> dict[str, object]:
    match message:
        case AgentHello() | Ack() | Renew() | Ping() | Report():
            return _json_of_agent(message)
        case _:
            return _json_of_service(message)


def _json_of_service(message: FromService) -> dict[str, object]:
    match message:
        case Greeting(nonce):
            return {"type": "hello", "v": 1, "nonce": nonce}
        case Welcome(clock):
            return {"type": "welcome", "clock": clock}
        case Refused(code, detail, hint):
            return {"type": "refused", "code": code, "detail": detail[:_WORDS], "hint": hint[:_WORDS]}
        case TrustSent(envelope):
            return {"type": "trust", "envelope": envelope.json()}
        case BundleSent(envelope, krl):
            beside = {} if krl is None else {"krl": to_base64(krl)}
            return {"type": "bundle", "envelope": envelope.json(), **beside}
        case CertificateSent(line):
            return {"type": "certificate", "line": line}
        case Dial(id_, secret, expires_at):
            return {"type": "dial", "id": id_, "secret": secret, "expires_at": expires_at}
        case Pong(clock):
            return {"type": "pong", "clock": clock}
        case Unknown(kind):
            return {"type": kind}


def _json_of_agent(message: FromAgent) -> dict[str, object]:
    match message:
        case AgentHello(realm, host, agent, signature, have, clock):
            who = {"realm": realm, "host": host, "agent": agent, "signature": to_base64(signature)}
            return {"type": "hello", "v": 1, **who, "have": _put_have(have), "clock": clock}
        case Ack(have, applied_at, problems):
            said = [{"code": each.code, "detail": each.detail[:_WORDS]} for each in problems[:PROBLEMS_MAX]]
            return {"type": "ack", "have": _put_have(have), "applied_at": applied_at, "problems": said}
        case Renew():
            return {"type": "renew"}
        case Ping(clock):
            return {"type": "ping", "clock": clock}
        case Report(kind, fields):
            return {"type": kind, **fields}


def _put_have(have: Have) -> dict[str, object]:
    return {
        "bundle": list(have.bundle) if have.bundle else None,
        "trust": list(have.trust) if have.trust else None,
        "krl": have.krl,
        "host_ca": have.host_ca,
    }


def _take_have(value: object) -> Have:
    fields = Fields(value, "what the agent has")
    bundle: BundleVersion | None = None
    trust: TrustVersion | None = None
    if fields.has("bundle"):
        epoch, counter, made = fields.numbers("bundle", 3)
        bundle = (epoch, counter, made)
    if fields.has("trust"):
        epoch, counter = fields.numbers("trust", 2)
        trust = (epoch, counter)
    krl = fields.text("krl", 64)
    if krl and not is_digest(krl):
        raise fields.wrong("krl")
    host_ca = fields.text("host_ca", 50) if fields.has("host_ca") else ""
    if host_ca and not FINGERPRINT.fullmatch(host_ca):
        raise fields.wrong("host_ca")
    fields.skip("bundle", "trust", "host_ca")
    fields.end()
    return Have(bundle, trust, krl, host_ca)


def _take_problem(value: object) -> Problem:
    fields = Fields(value, "a problem")
    found = Problem(_words(fields, "code", _VERSION), _words(fields, "detail", _WORDS))
    fields.end()
    return found


def _words(fields: Fields, name: str, most: int) -> str:
    """Text that may stand in a terminal and in the log."""
    text = fields.text(name, most)
    if not text.isprintable():
        raise fields.wrong(name)
    return text


def _digest(fields: Fields, name: str) -> str:
    if not is_digest(text := fields.text(name, 64)):
        raise fields.wrong(name)
    return text


def _id(fields: Fields, name: str) -> str:
    if not is_id(text := fields.text(name, 26)):
        raise fields.wrong(name)
    return text


def _base64(fields: Fields, name: str, most: int) -> bytes:
    try:
        return from_base64(fields.text(name, most * 4 // 3 + 4), most)
    except FormatError:
        raise fields.wrong(name) from None
