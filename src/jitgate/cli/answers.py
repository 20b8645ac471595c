"""What the service answers, read with suspicion: it may be wrong, taken over, or not a jitgate at all.

Every name that reaches a file or a command line goes through `core.text.check_name` here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from jitgate.ca.names import host_alias
from jitgate.cli.times import parse
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.ids import is_id
from jitgate.core.secret import Secret
from jitgate.core.text import check_name, shown
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

Row = dict[str, object]

# An IPv4 or IPv6 address or a DNS name; never something that ssh would take for an option or a pattern
_ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")
_PORTS = range(1, 65536)
_LIST_PATH = re.compile(r"/\.well-known/jitgate/krl\?[a-z0-9=&.-]{1,100}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TICKET = re.compile(r"[A-Za-z0-9_=.~+/-]{16,4096}")


@dataclass(frozen=True, slots=True)
class Login:
    name: str
    role: str
    permitted: bool
    why: str


@dataclass(frozen=True, slots=True)
class Host:
    """A host as `vm connect` needs it. `alias` is the name its certificate carries, computed here, not taken over."""

    name: str
    realm: str
    address: str
    port: int
    logins: tuple[Login, ...]

    @property
    def alias(self) -> str:
        return host_alias(self.realm, self.name)

    @property
    def permitted(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(login.name for login in self.logins if login.permitted))


@dataclass(frozen=True, slots=True)
class Grant:
    id: str
    host: str
    login: str
    role: str
    ends_at: Micros
    reason: str
    realm: str = "default"


@dataclass(frozen=True, slots=True)
class RevokedList:
    """Where a list is, and what it was when it was named: SHA-256 in hex."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Realm:
    """`host_krl`: what may not be taken for one of its hosts, where the service says so."""

    name: str
    user_ca: "tuple[PublicKey, ...]"
    host_ca: "tuple[PublicKey, ...]"
    host_krl: RevokedList | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where tunnels begin. `server_name`: whom its TLS certificate is for; `keep_tls`: TLS stays on in a session."""

    address: str
    port: int
    server_name: str
    keep_tls: bool


@dataclass(frozen=True, slots=True)
class Ticket:
    """What opens tunnels to one login on one host until `expires_at`."""

    secret: Secret[str]
    expires_at: Micros
    gateway: Gateway


@dataclass(frozen=True, slots=True)
class About:
    """What our ssh config needs of /.well-known/jitgate. `gateway` is None where hosts are dialled directly."""

    realms: tuple[Realm, ...]
    gateway: Gateway | None


def twice(host: Host, hosts: Sequence[Host]) -> bool:
    """Whether another host has its name, in another realm."""
    return any(other.name == host.name and other.realm != host.realm for other in hosts)


def as_row(value: object) -> Row:
    if not isinstance(value, dict):
        raise BadInput(f"the service's answer has {type(value).__name__} where an object belongs")
    return cast("Row", value)


def text(row: Row, name: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadInput(f"the service's answer has no text {shown(name)}")
    return value


def whole(row: Row, name: str) -> int:
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInput(f"the service's answer has no number {shown(name)}")
    return value


def rows(row: Row, name: str) -> list[Row]:
    value = row.get(name)
    if not isinstance(value, list):
        raise BadInput(f"the service's answer has no list {shown(name)}")
    return [as_row(item) for item in value]


def texts(row: Row, name: str) -> list[str]:
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadInput(f"the service's answer has no list of texts {shown(name)}")
    return cast("list[str]", value)


def as_host(row: Row) -> Host:
    address, port = text(row, "address"), whole(row, "port")
    if not _ADDRESS.fullmatch(address) or port not in _PORTS:
        raise BadInput(f"the service's answer has no address but {shown(address)} port {port}")
    return Host(
        check_name("host", text(row, "name")),
        check_name("realm", text(row, "realm")),
        address,
        port,
        tuple(
            Login(
                check_name("login", text(login, "login")),
                text(login, "role", ""),
                login.get("permitted") is True,
                text(login, "why", ""),
            )
            for login in rows(row, "logins")
        ),
    )


def as_grant(row: Row) -> Grant:
    return Grant(
        check_id(text(row, "id")),
        check_name("host", text(row, "host")),
        check_name("login", text(row, "login")),
        check_name("role", text(row, "role")),
        parse(text(row, "ends_at")),
        text(row, "reason", ""),
        check_name("realm", text(row, "realm", "default")),
    )


def as_realms(row: Row) -> tuple[Realm, ...]:
    """The realms and their authorities from /.well-known/jitgate."""

    def keys(realm: Row, name: str) -> "tuple[PublicKey, ...]":
        return tuple(parse_public_key_line(line)[0] for line in texts(realm, name))

    return tuple(
        Realm(
            check_name("realm", text(realm, "name")),
            keys(realm, "user_ca"),
            keys(realm, "host_ca"),
            _revoked_list(realm.get("host_krl")),
        )
        for realm in rows(row, "realms")
    )


def _revoked_list(value: object) -> RevokedList | None:
    if value is None:
        return None
    found = RevokedList(text(as_row(value), "path"), text(as_row(value), "sha256"))
    if not _LIST_PATH.fullmatch(found.path) or not _DIGEST.fullmatch(found.sha256):
        raise BadInput(f"the service's answer has no list of revoked host keys but {shown(found.path)}")
    return found


def as_gateway(value: object) -> Gateway | None:
    if value is None:
        return None
    row = as_row(value)
    address, port = text(row, "address"), whole(row, "port")
    name = text(row, "server_name", "") or address
    if not _ADDRESS.fullmatch(address) or not _ADDRESS.fullmatch(name) or port not in _PORTS:
        raise BadInput(f"the service's answer has no gateway but {shown(address)} port {port}, {shown(name)}")
    return Gateway(address, port, name, row.get("keep_tls") is True)


def as_ticket(value: object) -> Ticket | None:
    gateway = as_gateway(value)
    if gateway is None:
        return None
    row = as_row(value)
    secret = text(row, "ticket")
    if not _TICKET.fullmatch(secret):
        raise BadInput("the service's answer has no ticket where one belongs")
    return Ticket(Secret(secret), parse(text(row, "expires_at")), gateway)


def as_about(row: Row) -> About:
    return About(as_realms(row), as_gateway(row.get("gateway")))


def check_id(value: str, listed_by: str = "jitctl grants ls") -> str:
    if not is_id(value):
        raise BadInput(f"not an id: {shown(value)}", f"an id has 26 letters and digits, as in: {listed_by}")
    return value
