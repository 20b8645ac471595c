"""What the service keeps of hosts that join and of agents that are connected."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jitgate.ca.trust import TrustVersion
from jitgate.core.clock import Micros
from jitgate.hosts.agent_wire import Problem
from jitgate.hosts.bundle import BundleVersion
from jitgate.ssh.pubkey import PublicKey


@dataclass(frozen=True, slots=True)
class HostTerms:
    """What a host is when it joins, as its owner said. `address` empty: the one that it joins from."""

    realm: str
    name: str
    address: str
    port: int
    labels: Mapping[str, str]
    logins: tuple[str, ...]
    reach: str = "dial"


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A join token, of which only the hash is kept. `again`: it may take the place of a host of that name.
    `used_by`: the host key that used it."""

    id: str
    hash: bytes
    terms: HostTerms
    again: bool
    made_at: Micros
    expires_at: Micros
    used_at: Micros | None = None
    used_by: PublicKey | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A host that proved `key` and waits for its owner's word. `how`: `token`, `key` or `oidc`."""

    terms: HostTerms
    key: PublicKey
    how: str
    source: str
    asked_at: Micros
    approved_at: Micros | None = None


@dataclass(frozen=True, slots=True)
class HostState:
    """What an agent said last. `connected_at` None: it is not connected; `node`: to which service it is, or was.
    `host_ca`: the fingerprint of the key that signed the certificate which its sshd shows, as it said at `host_ca_at`;
    empty if it did not say. `clock_off`: its clock minus ours."""

    host_id: str
    realm: str
    node: str
    connected_at: Micros | None
    seen_at: Micros
    agent: str = ""
    bundle: BundleVersion | None = None
    bundle_at: Micros | None = None
    trust: TrustVersion | None = None
    trust_at: Micros | None = None
    krl: str = ""
    host_ca: str = ""
    host_ca_at: Micros | None = None
    clock_off: Micros = 0
    problems: tuple[Problem, ...] = field(default=())
