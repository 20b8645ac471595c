"""Authorities: a realm's CA keys, as everybody may see them."""

from dataclasses import dataclass
from enum import StrEnum

from jitgate.ssh.pubkey import PublicKey

DEFAULT_REALM = "default"  # the one realm of a new installation; events that belong to no other are its own


class CaKind(StrEnum):
    USER = "user"  # signs what persons hold
    HOST = "host"  # signs what hosts show
    INTERCEPTION = "interception"  # signs the gateway's own names, never a host's


class Phase(StrEnum):
    ACTIVE = "active"  # trusted and signed with


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA key's public half and what it is for."""

    id: str
    realm: str
    kind: CaKind
    key: PublicKey
    phase: Phase = Phase.ACTIVE
