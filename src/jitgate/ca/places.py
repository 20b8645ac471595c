"""Where CA keys lie that are no plain files: names of such keys, and the tables of `signer.toml` that say how to reach
them.

    pkcs11:LABEL                 a key pair of that label in the one token of [pkcs11]
    agent:SHA256:FINGERPRINT     a key of the ssh-agent of [agent]
    transit:NAME, transit:NAME:3 a key of the transit engine of [transit]: its newest version, or that one

A file of the folder may be sealed by age: [sealed] names who opens it. Its name is a file's.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Final, TypeVar
from urllib.parse import urlsplit

from jitgate.core.errors import BadInput
from jitgate.core.text import shown

SCHEMES: Final = ("pkcs11", "agent", "transit")
TABLES: Final = ("sealed", *SCHEMES)
_PLACE: Final = re.compile(
    r"pkcs11:[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
    r"|agent:SHA256:[A-Za-z0-9+/]{43}"
    r"|transit:[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(:[1-9][0-9]{0,5})?"
)
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_PATH: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}
_TIMEOUT_MS: Final = range(100, 10_001)  # one signature; the service waits 30 s for a whole batch
_VARIABLES_MAX: Final = 16


def is_place(name: str) -> bool:
    """Whether this is the name of a key that lies in no file."""
    return _PLACE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class SealedPlace:
    """`identity_file`: an age identity or an unencrypted ssh key, 0600 and not beside what it opens."""

    identity_file: str


@dataclass(frozen=True, slots=True)
class Pkcs11Place:
    """`module`: the token's library. `token`: its label. `environment`: what the library wants to find set."""

    module: str
    token: str
    pin_file: str
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class AgentPlace:
    socket: str
    timeout_ms: int = 2000


@dataclass(frozen=True, slots=True)
class TransitPlace:
    """`address`: `https://HOST:PORT` of a Vault or an OpenBao; `ca_file`: who vouches for it, if not the system's."""

    address: str
    token_file: str
    mount: str = "transit"
    ca_file: str = ""
    namespace: str = ""
    timeout_ms: int = 2000


@dataclass(frozen=True, slots=True)
class Places:
    sealed: SealedPlace | None = None
    pkcs11: Pkcs11Place | None = None
    agent: AgentPlace | None = None
    transit: TransitPlace | None = None

    def check(self, names: list[str]) -> None:
        """`BadInput` for a name whose table is missing."""
        for name in names:
            scheme = name.partition(":")[0]
            if is_place(name) and getattr(self, scheme) is None:
                raise BadInput(f"signer.toml: {name} stands there, and no table [{scheme}]", "docs/custody.md")


NOWHERE: Final = Places()


def read_places(content: Mapping[str, object]) -> Places:
    """The tables of `content` that say where keys lie; `BadInput` names what is wrong. Others are left alone."""
    places = Places(
        _read(SealedPlace, "sealed", content),
        _read(Pkcs11Place, "pkcs11", content),
        _read(AgentPlace, "agent", content),
        _read(TransitPlace, "transit", content),
    )
    if places.transit:
        _check_transit(places.transit)
    return places


_Place = TypeVar("_Place", SealedPlace, Pkcs11Place, AgentPlace, TransitPlace)
_FILES: Final = {"identity_file", "module", "pin_file", "socket", "token_file", "ca_file"}


def _read(made: type[_Place], name: str, content: Mapping[str, object]) -> _Place | None:
    if name not in content:
        return None
    table = content[name]
    where = f"signer.toml: [{name}]"
    if not isinstance(table, dict):
        raise BadInput(f"{where} is not a table")
    known = {each.name: each for each in fields(made)}
    if unknown := sorted(table.keys() - known.keys()):
        raise BadInput(f"{where}: unknown name {shown(unknown[0])}", f"known are {', '.join(sorted(known))}")
    if missing := [each.name for each in known.values() if each.default is MISSING and each.name not in table]:
        raise BadInput(f"{where}: {missing[0]} is missing", "docs/custody.md")
    for key, value in table.items():
        _check_value(f"{where}: {key}", key, value)
    return made(**table)


def _check_value(where: str, name: str, value: object) -> None:
    if name == "environment":
        if not isinstance(value, dict) or len(value) > _VARIABLES_MAX:
            raise BadInput(f"{where} is not a table of a few texts")
        for variable, text in value.items():
            if not _VARIABLE.fullmatch(variable) or not isinstance(text, str) or not text.isprintable():
                raise BadInput(f"{where}: {shown(variable)} is no variable with a text")
    elif name == "timeout_ms":
        if not isinstance(value, int) or value not in _TIMEOUT_MS:
            raise BadInput(f"{where} is not a number from {_TIMEOUT_MS[0]} to {_TIMEOUT_MS[-1]}")
    elif not isinstance(value, str) or not value.isprintable() or not value:
        raise BadInput(f"{where} is not a text")
    elif name in _FILES and not value.startswith("/"):
        raise BadInput(f"{where} is not an absolute path: {shown(value)}")


def _check_transit(place: TransitPlace) -> None:
    parts = urlsplit(place.address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise BadInput("signer.toml: [transit]: address is not one", "https://vault.example.org:8200")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput("signer.toml: [transit]: address holds more than that", "https://vault.example.org:8200")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise BadInput("signer.toml: [transit]: plain HTTP beyond this machine", "https://..., with ca_file")
    for name in ("mount", "namespace"):
        if (value := getattr(place, name)) and (not _PATH.fullmatch(value) or ".." in value):
            raise BadInput(f"signer.toml: [transit]: {name} is not a path", 'like "transit" or "team-a/transit"')
