"""What a host was told when it joined, and obeys from then on: /etc/jitgate/agent.toml. Public data only.

What this host opens to whom is made from these lines and nothing that comes later: `host`, `realm` and `logins`.
"""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jitgate.agent import durable
from jitgate.agent.sshd import Sshd
from jitgate.agent.trust import MAX_LOGINS
from jitgate.ca.names import host_alias
from jitgate.ca.trust import TrustPin
from jitgate.core.errors import BadInput, NotFound
from jitgate.core.ids import is_id
from jitgate.core.text import check_name, shown
from jitgate.hosts.bundle import BundlePin
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key_line

CONFIG: Final = Path("/etc/jitgate/agent.toml")
STATE: Final = Path("/var/lib/jitgate-agent")
MAX_BYTES: Final = 1 << 16
MAX_GATEWAYS: Final = 8
_ADDRESS: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,253}[A-Za-z0-9])?|::1?")
_URL: Final = re.compile(r"https?://[!-~]{1,300}")
_PIN: Final = re.compile(r"(sha256=[0-9a-f]{64})?")
_HINT: Final = "join again: jitgate agent join"


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where an agent dials. `server_name`: the name in the certificate that it has to show."""

    address: str
    port: int
    server_name: str

    def __post_init__(self) -> None:
        if not (_ADDRESS.fullmatch(self.address) and _ADDRESS.fullmatch(self.server_name) and 0 < self.port < 1 << 16):
            raise BadInput(f"not a gateway's address: {shown(self.address)}", _HINT)


@dataclass(frozen=True, slots=True)
class Pins:
    """`root`: signs trust lists. `tls_pin`: `sha256=HEX` of the service's TLS authority, or empty for public trust.

    `host_key`: the private key's path. `sshd`: which sshd this is about. `sshd_at`: where it listens, for connections
    that are dialled back (dialback.py); empty: none are. The constructor checks every field.
    """

    url: str
    installation: str
    realm: str
    host_id: str
    host: str
    logins: tuple[str, ...]
    root: PublicKey
    tls_pin: str
    gateways: tuple[Gateway, ...]
    host_key: Path
    sshd: Sshd
    sshd_at: str = ""

    def __post_init__(self) -> None:
        check_name("realm", self.realm)
        check_name("host", self.host)
        for login in self.logins:
            check_name("login", login)
        if not (is_id(self.installation) and is_id(self.host_id) and _URL.fullmatch(self.url)):
            raise BadInput("the agent's settings have a field of the wrong form", _HINT)
        if not _PIN.fullmatch(self.tls_pin) or self.root.algorithm is not Algorithm.ED25519:
            raise BadInput("the agent's settings have a key of the wrong form", _HINT)
        if not 1 <= len(self.logins) <= MAX_LOGINS or not 1 <= len(self.gateways) <= MAX_GATEWAYS:
            raise BadInput("the agent's settings name no login or no gateway, or too many", _HINT)

    @property
    def alias(self) -> str:
        return host_alias(self.realm, self.host)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The right sides of the principals that open this host: its own name."""
        return (f"host:{self.host}",)

    @property
    def trust_pin(self) -> TrustPin:
        return TrustPin(self.installation, self.realm, self.root)

    def bundle_pin(self, online: PublicKey) -> BundlePin:
        return BundlePin(self.installation, self.realm, self.host_id, self.host, online)


def write(path: Path, pins: Pins) -> None:
    sshd = pins.sshd
    lines = [
        "# Made by jitgate agent join. What this host opens is made from host, realm and logins.",
        *(
            f"{name} = {_text(value)}"
            for name, value in {
                "url": pins.url,
                "installation": pins.installation,
                "realm": pins.realm,
                "host_id": pins.host_id,
                "host": pins.host,
                "root": pins.root.line(),
                "tls_pin": pins.tls_pin,
                "host_key": str(pins.host_key),
                "etc": str(sshd.etc),
                "sshd": sshd.program,
                "reload": sshd.reload,
                **({"sshd_at": pins.sshd_at} if pins.sshd_at else {}),
            }.items()
        ),
        f"logins = [{', '.join(map(_text, pins.logins))}]",
    ]
    for gateway in pins.gateways:
        lines += ["", "[[gateway]]", f"address = {_text(gateway.address)}", f"port = {gateway.port}"]
        lines += [f"server_name = {_text(gateway.server_name)}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.put(path, ("\n".join(lines) + "\n").encode(), durable.PUBLIC)


def read(path: Path) -> Pins:
    """The settings; `NotFound` when this host has not joined, `BadInput` for a file that is not what `write` makes."""
    data = durable.get(path, MAX_BYTES)
    if data is None:
        hint = "jitgate agent join --token-file FILE; where it joined with --state, say that here too"
        raise NotFound(f"this host has not joined: there is no {path}", hint)
    try:
        found = tomllib.loads(data.decode())
        gateways = found.pop("gateway", [])
        logins = found.pop("logins", [])
        if not all(isinstance(login, str) for login in logins):
            raise BadInput(f"{path}: logins is not a list of texts", _HINT)
        texts = {name: _as_text(found, name) for name in _TEXTS}
        at = _as_text(found, _AT) if _AT in found else ""
        if unknown := sorted(found.keys() - _TEXTS - {_AT}):
            raise BadInput(f"{path} has an unknown line: {shown(unknown[0])}", f"known are: {' '.join(sorted(_TEXTS))}")
        return Pins(
            url=texts["url"],
            installation=texts["installation"],
            realm=texts["realm"],
            host_id=texts["host_id"],
            host=texts["host"],
            logins=tuple(logins),
            root=parse_public_key_line(texts["root"])[0],
            tls_pin=texts["tls_pin"],
            gateways=tuple(Gateway(each["address"], each["port"], each["server_name"]) for each in gateways),
            host_key=Path(texts["host_key"]),
            sshd=Sshd(Path(texts["etc"]), texts["sshd"], texts["reload"]),
            sshd_at=at,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read: {shown(str(error))}", _HINT) from None


_AT: Final = "sshd_at"
_TEXTS: Final = frozenset(
    "url installation realm host_id host root tls_pin host_key etc sshd reload".split()  # noqa: SIM905  # reads better
)


def _as_text(found: dict[str, object], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise BadInput(f"the agent's {name} is not a text", _HINT)
    return value


def _text(value: str) -> str:
    """A TOML basic string: JSON's is one, but for a character that no path of ours has."""
    if "\x7f" in value:
        raise BadInput(f"not a text for a settings file: {shown(value)}")
    return json.dumps(value)
