"""The table `[gateway]` of the settings."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from jitgate.core.errors import BadInput
from jitgate.core.text import shown

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
OTHERS_MAX = 3  # an agent keeps a connection to two
NETWORKS_MAX = 16  # they stand in every certificate of a role with source addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    enabled: bool = True
    """Whether people reach hosts through this service. Needs an https url."""
    address: str = ""
    """Where they dial it, `NAME[:PORT]`; empty: as the url says."""
    server_name: str = ""
    """The name in its TLS certificate; empty: that of the url."""
    keep_tls: bool = False
    """Whether TLS stays on around SSH, for networks that let nothing else pass; slower."""
    listen: str = ""
    """A second port, for the tunnel alone, `HOST:PORT`; empty: only the one port."""
    proxy_from: tuple[str, ...] = ()
    """Networks of proxies that say by PROXY protocol, version 2, where connections come from; they have to."""
    proxy_on: str = "all"
    """`all` ports, or only the `tunnel`'s own."""
    addresses: tuple[str, ...] = ()
    """The networks of the addresses by which hosts see this gateway; needed where roles name source addresses."""
    others: tuple[str, ...] = ()
    """Gateways of other nodes that agents dial beside this one, `NAME[:PORT]`."""
    only: bool = False
    """Whether certificates are good through the gateway and in no other way."""

    def __post_init__(self) -> None:
        if self.proxy_on not in {"all", "tunnel"}:
            raise BadInput(f"unknown proxy_on: {shown(self.proxy_on)}", "all or tunnel")
        if self.proxy_on == "tunnel" and not self.listen:
            raise BadInput("proxy_on = tunnel without a port of its own", "set listen")
        for name in ("proxy_from", "addresses"):
            for each in getattr(self, name):
                _network(name, each)
        if len(self.addresses) > NETWORKS_MAX:
            raise BadInput(f"{len(self.addresses)} addresses", f"at most {NETWORKS_MAX}")
        if self.only and not self.addresses:
            raise BadInput("only without addresses", "name the addresses by which hosts see the gateway")
        self.dialled("https://localhost")
        if len(self.others) > OTHERS_MAX:
            raise BadInput(f"{len(self.others)} other gateways", f"at most {OTHERS_MAX}")
        for each in self.others:
            _dialled("", 443, each)

    @property
    def proxies(self) -> tuple[Network, ...]:
        return tuple(_network("proxy_from", each) for each in self.proxy_from)

    def dialled(self, url: str) -> tuple[str, int, str]:
        """Address, port and TLS name, as people are told."""
        ours = urlsplit(url)
        name, port = ours.hostname or "", ours.port or 443
        if self.listen:
            port = _port(self.listen) or port
        address, port = _dialled(name, port, self.address)
        return address, port, self.server_name or name

    def agents_dial(self, url: str) -> tuple[tuple[str, int, str], ...]:
        """Address, port and TLS name of this gateway and of the others, as agents are told."""
        others = (_dialled("", 443, each) for each in self.others)
        return (self.dialled(url), *((address, port, address) for address, port in others))


def _dialled(name: str, port: int, text: str) -> tuple[str, int]:
    """What `text` says, `name` and `port` where it says nothing."""
    if not text:
        return name, port
    given = urlsplit(f"//{text}")
    try:
        address, port = given.hostname or "", given.port or port
    except ValueError:
        address = ""
    if not address or given.path or given.query or given.username:
        raise BadInput(f"not an address: {shown(text)}", "like gate.example.org:443")
    return address, port


def _port(listen: str) -> int:
    port = listen.rpartition(":")[2]
    if not port.isascii() or not port.isdigit():
        raise BadInput(f"not an address with a port: {shown(listen)}", "like 0.0.0.0:2222")
    return int(port)


def _network(setting: str, text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise BadInput(f"{setting}: not a network: {shown(text)}", "like 10.0.0.0/8 or 192.0.2.7/32") from None
    if str(network) != text:
        raise BadInput(f"{setting}: not the usual form: {shown(text)}", f"write {network}")
    return network
