"""Targets: the hosts an owner made known."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jitgate.ca.names import host_alias
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.text import check_name, shown
from jitgate.policy.model import HostFacts
from jitgate.ssh.pubkey import PublicKey

LOGINS_MAX = 64  # accounts on one host that jitgate may open; a principals file is written for each
LABELS_MAX = 32
REACHES = ("dial", "agent")
"""How the gateway gets to a host: it dials the address, or asks the host's agent to dial back."""

_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class Host:
    """A host: how it is called, where a connection goes, which accounts may be opened, and the key it must show."""

    id: str
    realm: str
    name: str
    address: str
    port: int
    labels: Mapping[str, str]
    logins: tuple[str, ...]
    key: PublicKey
    added_at: Micros
    reach: str = "dial"

    def __post_init__(self) -> None:
        check_name("realm", self.realm)
        check_name("host", self.name)
        check_address(self.address)
        check_reach(self.reach)
        if not 1 <= self.port <= 65535:  # noqa: PLR2004  # TCP's own range
            raise BadInput(f"not a port: {self.port}", "a number from 1 to 65535")
        if not 1 <= len(self.logins) <= LOGINS_MAX or len(set(self.logins)) != len(self.logins):
            raise BadInput("a host needs logins, each once", f"from 1 to {LOGINS_MAX} of them")
        for login in self.logins:
            check_name("login", login)
        if len(self.labels) > LABELS_MAX:
            raise BadInput(f"{len(self.labels)} labels", f"at most {LABELS_MAX}")
        for name, value in self.labels.items():
            check_name("label key", name)
            check_name("label value", value)
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))

    @property
    def alias(self) -> str:
        """The name the host's certificate carries: unique in the installation, and under the realm's own pattern."""
        return host_alias(self.realm, self.name)

    @property
    def facts(self) -> HostFacts:
        """What policy decides on."""
        return HostFacts(self.name, self.realm, self.labels, self.logins)


def check_reach(value: str) -> str:
    if value not in REACHES:
        raise BadInput(f"not a way to a host: {shown(value)}", f"one of {', '.join(REACHES)}")
    return value


def check_address(value: str) -> str:
    """An IP address or a DNS name in lower case; else `BadInput`. Nothing that ssh or a shell could read otherwise."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _DNS_NAME.fullmatch(value):
            raise BadInput(f"not an address: {shown(value)}", "an IP address or a DNS name in lower case") from None
    if "%" in value:
        raise BadInput(f"not an address: {shown(value)}", "an address without a zone")
    return value
