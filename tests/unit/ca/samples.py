"""Keys, grants and a signer in memory for the tests of `ca/` and of what stands on it."""

from collections.abc import Coroutine, Sequence
from functools import cache
from hashlib import sha256
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitgate.adapters.signers.desk import Desk
from jitgate.ca.agent_keys import agents_text
from jitgate.ca.model import HeldKeys, SignedEntry, SignedPage, SignerRefusal, SignRequest
from jitgate.ca.rules import Rules, default_rules, read_rules
from jitgate.ca.signed import parse_line, summarize
from jitgate.core.clock import HOUR, SECOND, Clock
from jitgate.grants.model import Grant, Holder, Target
from jitgate.identity.model import Factor, Kind
from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.pubkey import PublicKey

T = TypeVar("T")

NOW = 1_700_000_000 * SECOND
ID = "01HF7YAT00TEST00000000000A"
WEB1 = Target("web1", "ubuntu")
ORIGIN = "jitgate.example.com/log"


@cache
def private(name: str) -> SoftwareKey:
    return SoftwareKey(Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest()))


def public(name: str) -> PublicKey:
    return private(name).public


GRANT = Grant(
    id=ID,
    realm="default",
    holder=Holder(ID, "alice", Kind.PERSON, "local", ((Factor.TOTP, NOW),)),
    role="web-admins",
    policy_digest="0" * 64,
    targets=(WEB1, Target("db1", "postgres")),
    reason="ticket 7",
    ticket="",
    opened_at=NOW,
    ends_at=NOW + HOUR,
    certificate_s=900,
    options=(("source-address", "192.0.2.0/24"),),
    extensions=("permit-pty",),
    metadata=(("team", "blue"),),
    on_expiry="end",
    max_session_s=None,
)

RULES = read_rules(
    default_rules(ORIGIN, "default", user_key="user", host_key="host", log_key="log") + agents_text("root", "online")
)


def finish(work: Coroutine[object, None, T]) -> T:
    """The result of a coroutine that waits for nothing: unit tests have no event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for something")


class MemorySigner:
    """The signer's own desk without process, socket and file. `lines` is its list."""

    def __init__(self, rules: Rules = RULES, *, clock: Clock = lambda: NOW, lines: Sequence[bytes] = ()) -> None:
        self.lines = list(lines)
        keys = {file: private(file) for file in [*rules.files(), *rules.other_files()]}
        self.desk = Desk(rules, keys, summarize(self.lines), self.lines.extend, clock=clock, tick=clock)

    async def keys(self) -> HeldKeys:
        return self.desk.keys()

    async def sign(self, requests: Sequence[SignRequest]) -> list[bytes | SignerRefusal]:
        return self.desk.sign(requests)

    async def checkpoint(self, body: bytes) -> bytes | SignerRefusal:
        return self.desk.checkpoint(body)

    async def trust(self, payload: bytes) -> bytes | SignerRefusal:
        return self.desk.trust(payload)

    async def bundles(self, payloads: Sequence[bytes]) -> list[bytes | SignerRefusal]:
        return [self.desk.bundle(each) for each in payloads]

    async def generate(self, realm: str) -> bytes | SignerRefusal:
        return self.desk.generate(realm)

    async def signed(self, offset: int = 0) -> SignedPage:
        """`offset` counts lines here."""
        found = [parse_line(line) for line in self.lines[offset:]]
        entries = tuple(each for each in found if isinstance(each, SignedEntry))
        return SignedPage(entries, len(self.lines), found.count(None))
