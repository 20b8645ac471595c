"""Authorities: a realm's CA keys, as everybody may see them."""

from dataclasses import dataclass, field
from enum import StrEnum

from jitgate.core.clock import Micros
from jitgate.ssh.pubkey import PublicKey

DEFAULT_REALM = "default"  # the one realm of a new installation; events that belong to no other are its own


class CaKind(StrEnum):
    USER = "user"  # signs what persons hold
    HOST = "host"  # signs what hosts show
    INTERCEPTION = "interception"  # signs the gateway's own names, never a host's
    MOUNT = "mount"  # signs plain logins for a Vault mount; no host is told to trust it by us


class Phase(StrEnum):
    LISTED = "listed"  # trusted: it will sign, or did
    ACTIVE = "active"  # trusted and signed with
    RETIRED = "retired"  # not trusted any more


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA key's public half and what it is for. `listed_at`: since when. `floor`: no serial up to it is used now."""

    id: str
    realm: str
    kind: CaKind
    key: PublicKey
    phase: Phase = Phase.ACTIVE
    listed_at: Micros = field(default=0, compare=False)
    floor: int = 0
