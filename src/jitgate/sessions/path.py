"""The way to hosts through the gateway: where it is, and what it means for a certificate's `source-address`."""

from dataclasses import dataclass

from jitgate.core.secret import Secret

SOURCE_ADDRESS = "source-address"


@dataclass(frozen=True, slots=True)
class AgentGateway:
    """Where an agent dials: `server_name` is what the TLS certificate there names."""

    address: str
    port: int
    server_name: str


@dataclass(frozen=True, slots=True)
class AgentWay:
    """What a host that joins is told. `tls_pin`: `sha256=HEX` of a self-made TLS authority, or empty."""

    url: str
    tls_pin: str
    gateways: tuple[AgentGateway, ...]


@dataclass(frozen=True, slots=True)
class GatewayPath:
    """`address`, `port`: where people dial it; `server_name`: what its TLS certificate names. `keep_tls`: TLS stays on.

    `networks`: the addresses by which hosts see the gateway, canonical CIDR. `only`: certificates are good from there
    and from nowhere else. `key`: signs tickets.
    """

    address: str
    port: int
    server_name: str
    keep_tls: bool
    networks: tuple[str, ...]
    only: bool
    key: Secret[bytes]

    def carries(self, options: tuple[tuple[str, str], ...]) -> bool:
        """Whether a grant with these critical options can be used through the gateway.

        One that names source networks cannot as long as the gateway's own are not known: the host would refuse it.
        """
        return bool(self.networks) or SOURCE_ADDRESS not in dict(options)

    def stands_for(self, options: tuple[tuple[str, str], ...]) -> str:
        """What a certificate says as `source-address` in place of the grant's own; "" where the grant's stays.

        Where the grant names source networks, or where this is the only way, it is the gateway's addresses; the
        grant's own are then asked at admission (admit.py).
        """
        if self.only or SOURCE_ADDRESS in dict(options):
            return ",".join(self.networks)
        return ""
