"""Settings: `jitgate.toml`, then `JITGATE_...` from the environment, into one frozen dataclass.

Unknown names and wrong types are refused: a misspelt setting must not silently be its default.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from jitgate.adapters.ldap.settings import DirectorySettings
from jitgate.adapters.vault.settings import KeysSettings
from jitgate.app.sections import read_section
from jitgate.core.errors import BadInput, NotFound
from jitgate.core.text import shown
from jitgate.flow.vault.settings import VaultSettings
from jitgate.gateway.settings import GatewaySettings
from jitgate.identity.proof import origin_of
from jitgate.identity.providers import ProviderSettings, check_providers

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
    ca_keys: str = ""
    """Folder of CA and log keys, may be mounted read-only; empty: `keys` in the state folder."""
    signer: str = ""
    """Socket of a signer that runs apart, under its own user; empty: a child of this process."""
    signer_folder: str = ""
    """Where that signer has `keys/`, `signer.toml` and `signed/`; empty: the state folder."""
    tls_certificate: str = ""
    """Certificate chain, PEM; empty: the self-made one that `jitgate init` wrote."""
    tls_key: str = ""
    """Its private key, PEM, 0600."""
    refused_keys: str = ""
    """File of SHA-256 fingerprints of keys that are never taken; empty: none."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    keys: KeysSettings = field(default_factory=KeysSettings)
    """Where people's public keys are registered."""
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    """The way to hosts through this service."""
    provider: tuple[ProviderSettings, ...] = ()
    """Identity providers that people may sign in by; none: only by password."""
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    """The LDAP directory that knows their groups; without a url there is none."""

    vault: VaultSettings = field(default_factory=VaultSettings)
    """Vault's API under /vault, for its clients; off."""

    def __post_init__(self) -> None:
        # The addresses are looked into elsewhere: each has one spelling.
        object.__setattr__(self, "url", origin_of(self.url))
        object.__setattr__(self, "other_urls", tuple(map(origin_of, self.other_urls)))
        check_providers(self.provider)
        if not self.directory.url and (asking := [each.name for each in self.provider if each.groups == "directory"]):
            raise BadInput(f"provider {asking[0]} takes groups from a directory that is not set up", "see [directory]")
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise BadInput("unknown log_level", "debug, info, warning or error")

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.state / 'jitgate.db'}"

    @property
    def keys_folder(self) -> Path:
        return Path(self.ca_keys) if self.ca_keys else self.signers_folder / "keys"

    @property
    def signers_folder(self) -> Path:
        return Path(self.signer_folder) if self.signer_folder else self.state

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
        raise NotFound(
            f"no settings at {path}",
            "name the file: --config FILE or JITGATE_CONFIG; for a new installation: jitgate init",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not TOML: {error}") from None
    for each in fields(Settings):
        if (value := environment.get(f"JITGATE_{each.name.upper()}")) is not None:
            content[each.name] = value.split() if each.name == "other_urls" else value
    return read_section(Settings, str(path), content)


def split_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, IPv6 in brackets; port 0 lets the system choose."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004  # TCP's range
        raise BadInput(f"not an address with a port: {shown(text)}", "like 127.0.0.1:8443 or [::1]:8443")
    return host.removeprefix("[").removesuffix("]"), int(port)
