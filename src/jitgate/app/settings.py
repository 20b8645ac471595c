"""Settings: `jitgate.toml`, then `JITGATE_...` from the environment, into one frozen dataclass.

Unknown names and wrong types are refused: a misspelt setting must not silently be its default.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from jitgate.core.errors import BadInput, NotFound
from jitgate.core.text import shown
from jitgate.identity.proof import origin_of

CONFIG_PATHS = (Path("/etc/jitgate/jitgate.toml"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an installation is made of. Paths are absolute; addresses are `HOST:PORT`."""

    state: Path
    """Folder of everything that is kept: database, keys, TLS files. 0700."""
    url: str
    """How people reach the service: `https://NAME[:PORT]`. Proofs are bound to it."""
    other_urls: tuple[str, ...] = ()
    """Further addresses under which the same service is reached."""
    listen: str = "127.0.0.1:8443"
    """Where the one port for HTTP and TLS is opened."""
    metrics: str = ""
    """Where metrics are served, apart from the port for people; empty: nowhere."""
    database: str = ""
    """A database URL; empty: SQLite in the state folder."""
    keys: str = ""
    """Folder of CA and log keys, may be mounted read-only; empty: `keys` in the state folder."""
    tls_certificate: str = ""
    """Certificate chain, PEM; empty: the self-made one that `jitgate init` wrote."""
    tls_key: str = ""
    """Its private key, PEM, 0600."""
    refused_keys: str = ""
    """File of SHA-256 fingerprints of keys that are never taken; empty: none."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.state / 'jitgate.db'}"

    @property
    def keys_folder(self) -> Path:
        return Path(self.keys) if self.keys else self.state / "keys"

    @property
    def origins(self) -> frozenset[str]:
        return frozenset(origin_of(url) for url in (self.url, *self.other_urls))

    @property
    def self_made_tls(self) -> bool:
        return not self.tls_certificate


def load_settings(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read `path`; each `JITGATE_NAME` in the environment replaces the setting `name`. Lists are split at spaces."""
    try:
        content: dict[str, object] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise NotFound(f"no settings at {path}", "make a new installation with: jitgate init") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not TOML: {error}") from None
    known = {field.name for field in fields(Settings)}
    for name in known:
        if (value := environment.get(f"JITGATE_{name.upper()}")) is not None:
            content[name] = value.split() if name == "other_urls" else value
    if unknown := sorted(content.keys() - known):
        raise BadInput(f"{path}: unknown setting {shown(unknown[0])}", f"known are {', '.join(sorted(known))}")
    return _checked(path, content)


def _checked(path: Path, content: dict[str, object]) -> Settings:
    for name in ("state", "url"):
        if name not in content:
            raise BadInput(f"{path}: {name} is missing", "jitgate init writes both")
    values: dict[str, object] = {}
    for name, value in content.items():
        if name == "other_urls":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise BadInput(f"{path}: other_urls is not a list of addresses")
            values[name] = tuple(map(origin_of, value))
        elif isinstance(value, str):
            values[name] = value
        else:
            raise BadInput(f"{path}: {name} is not text", f'write {name} = "..."')
    state = Path(str(values.pop("state")))
    if not state.is_absolute():
        raise BadInput(f"{path}: state is not an absolute path")
    values["url"] = origin_of(str(values["url"]))  # `https:` is looked for elsewhere, and has one spelling
    if values.get("log_level", "info") not in {"debug", "info", "warning", "error"}:
        raise BadInput(f"{path}: unknown log_level", "debug, info, warning or error")
    return Settings(state=state, **values)  # type: ignore[arg-type]  # names and types were checked above


def split_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, IPv6 in brackets; port 0 lets the system choose."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004  # TCP's range
        raise BadInput(f"not an address with a port: {shown(text)}", "like 127.0.0.1:8443 or [::1]:8443")
    return host.removeprefix("[").removesuffix("]"), int(port)
