"""`[keys]` of `jitgate.toml`: where people's public keys are registered, and how jitgate enters a Vault."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from jitgate.core.addresses import is_loopback
from jitgate.core.errors import BadInput

STORES: Final = ("database", "vault")
TIMEOUT_MS: Final = range(100, 10_001)  # a request to the service has 15 s altogether
_PATH: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysSettings:
    """`store = "database"`: the rows alone. `"vault"`: a key counts only while its entry in KV v2 says the same.

    The service enters with the token in `token_file`, or as an AppRole: `role_id` (or `role_id_file`) and
    `secret_id_file`. Files with secrets are read each time they are needed, so they may be replaced.
    """

    store: str = "database"
    url: str = ""
    mount: str = "secret"
    prefix: str = "jitgate/keys"
    namespace: str = ""
    token_file: str = ""
    role_id: str = ""
    role_id_file: str = ""
    secret_id_file: str = ""
    auth_mount: str = "approle"
    ca_file: str = ""
    timeout_ms: int = 2000

    def __post_init__(self) -> None:
        if self.store not in STORES:
            raise BadInput("unknown store", " or ".join(STORES))
        if self.store == "vault":
            self._check_address()
            self._check_entry()

    def _check_address(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
            raise BadInput("url is not the address of a Vault", "https://vault.example.org:8200")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise BadInput("url holds more than an address", "https://vault.example.org:8200")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise BadInput("url is plain HTTP beyond this machine", "https://..., with ca_file if it is your own CA")
        for name in ("mount", "prefix", "auth_mount"):
            if not _PATH.fullmatch(getattr(self, name)) or ".." in getattr(self, name):
                raise BadInput(f"{name} is not a path", 'like "secret" or "jitgate/keys"')
        if self.namespace and not _PATH.fullmatch(self.namespace.rstrip("/")):
            raise BadInput("namespace is not a path", 'like "team-a"')
        if self.timeout_ms not in TIMEOUT_MS:
            raise BadInput("timeout_ms is out of range", f"{TIMEOUT_MS[0]} to {TIMEOUT_MS[-1]}")

    def _check_entry(self) -> None:
        approle = bool(self.role_id or self.role_id_file)
        if bool(self.token_file) == approle or (self.role_id and self.role_id_file):
            raise BadInput("not one way to enter", "token_file; or role_id and secret_id_file")
        if approle != bool(self.secret_id_file):
            raise BadInput("an AppRole has a role id and a secret id", "role_id (or role_id_file) and secret_id_file")
        for name in ("token_file", "role_id_file", "secret_id_file", "ca_file"):
            if (path := getattr(self, name)) and not path.startswith("/"):
                raise BadInput(f"{name} is not an absolute path")
