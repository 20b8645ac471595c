"""What every act is handed: the outside world, put together once by `app/`."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from jitgate.ca.model import Signer
from jitgate.core.clock import Clock, Micros
from jitgate.core.ids import Random, new_id
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Elsewhere
from jitgate.flow.floods import Floods
from jitgate.flow.ports import KeyRegistry, RowsAlone, Store
from jitgate.flow.rates import Rates
from jitgate.flow.serials import Serials
from jitgate.flow.vault.settings import VaultSettings
from jitgate.identity.keys import RefusedKeys
from jitgate.sessions.path import AgentWay, GatewayPath


@dataclass(frozen=True, slots=True)
class Outside:
    """`origins`: the addresses by which this service may be called. `hashing`: where passwords are hashed, few at a
    time. `sealing_key`: opens TOTP seeds; it is not in the database. `waiting`: by person, who waits for the log.
    `gateway`: the way to hosts through us; None where there is none."""

    store: Store
    signer: Signer
    clock: Clock
    random: Random
    sealing_key: Secret[bytes]
    hashing: Executor
    origins: frozenset[str]
    refused_keys: RefusedKeys = frozenset()
    floods: Floods = field(default_factory=Floods)
    serials: Serials = field(default_factory=Serials)
    waiting: Counter[str] = field(default_factory=Counter)
    rates: Rates = field(default_factory=Rates)
    node: str = ""
    """Which of the services on this database this is."""
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    key_registry: KeyRegistry = field(default_factory=RowsAlone)
    """What has to agree with the rows of people's keys."""
    gateway: GatewayPath | None = None
    agents: AgentWay | None = None
    """How hosts' agents reach us; None where there is no https."""
    vault: VaultSettings = field(default_factory=VaultSettings)
    """Vault's API, where an owner switched it on."""
    vault_audit: Callable[[str, bytes], None] | None = None
    """Appends a line to a file of an audit device."""

    krls: dict[tuple[str, bool], tuple[tuple[int, int], bytes, str]] = field(default_factory=dict)
    """By realm: the revocation list that was made last, and of which state (`flow/krl.py`)."""

    def new_id(self, now: Micros) -> str:
        return new_id(now, self.random)
