"""`[vault]` of `jitgate.toml`."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from jitgate.core.errors import BadInput

SETTING: Final = "vault.plain_logins_unregistered_keys"
"""What every event of the surface carries: the one switch by which somebody chose its risks."""


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Without the first there is no surface at all."""

    plain_logins_unregistered_keys: bool = False
    """Vault's API under /vault: who holds a token of it gets certificates for any key, for logins without a host."""
    audit_folder: str = ""
    """Where file audit devices write, whatever folder a client names; empty: they are listed and write nothing."""

    def __post_init__(self) -> None:
        if self.audit_folder and not PurePosixPath(self.audit_folder).is_absolute():
            raise BadInput("vault: audit_folder is not an absolute path")

    @property
    def on(self) -> bool:
        return self.plain_logins_unregistered_keys
