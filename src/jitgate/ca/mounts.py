"""`[[mount]]` of `signer.toml`: what the signer does for Vault mounts. Off unless the table is there.

A mount's realm begins with `vault-`; its keys are made by the signer itself and never leave it. Under such a key it
signs what no other key may: certificates of plain logins (`ubuntu`, not `ubuntu@host:web1`), which every host takes
that trusts the key. So these keys are of a kind of their own, which stands in no realm's list of trust.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from jitgate.ca.names import is_name, is_user_key_id
from jitgate.core.outcome import Check, failed
from jitgate.core.text import shown
from jitgate.ssh.cert import CertificateBody

FOLDER: Final = "mount/"  # before a key's name where keys are listed; no file of the folder of CA keys is called so
REALMS: Final = re.compile(r"vault-[a-z0-9-]{0,26}\*?")
_FILE: Final = re.compile(r"(vault-[a-z0-9-]{1,26})\.([1-9][0-9]{0,3})")
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class MountCeiling:
    """What the keys of mounts may sign at most. `realms`: `vault-NAME`, or `vault-*`; `max_keys`: of all of them.

    `realm`: the one that the key is of; empty in the table itself.
    """

    realms: str
    max_keys: int
    max_lifetime_s: int
    max_principals: int
    logins: frozenset[str]
    denied_logins: frozenset[str]
    extensions: frozenset[str]
    critical_options: frozenset[str]
    key_algorithms: frozenset[str]
    rate_per_minute: int
    burst: int
    realm: str = ""

    def means(self, realm: str) -> bool:
        if self.realms.endswith(_ANY):
            return realm.startswith(self.realms[:-1])
        return realm == self.realms


def realm_of_file(file: str) -> str | None:
    """The realm that a mount's key is of, by the name it is listed under: `mount/REALM.NUMBER`."""
    match = _FILE.fullmatch(file.removeprefix(FOLDER))
    return match[1] if match and file.startswith(FOLDER) else None


def broken_by_mount(body: CertificateBody, ceiling: MountCeiling) -> Iterator[Check]:
    """The rules of plain logins, which the certificate breaks."""
    if not is_user_key_id(body.key_id):
        yield failed("key_id", f"the key id does not name grant and person: {shown(body.key_id)}")
    if not 1 <= len(body.principals) <= ceiling.max_principals:
        yield failed("principals", f"{len(body.principals)} principals", _raise("max_principals"))
    for principal in body.principals:
        if not is_name("login", principal):
            yield failed("scope", f"the principal {shown(principal)} is no plain login", "a mount's key signs no other")
        elif principal in ceiling.denied_logins or not (_ANY in ceiling.logins or principal in ceiling.logins):
            yield failed("login", f"the login {shown(principal)}", _raise("logins"))
    for name, _ in body.critical_options:
        if name not in ceiling.critical_options:
            yield failed("critical_option", f"{name} is not allowed", _raise("critical_options"))


def _raise(name: str) -> str:
    return f"the signer's own file decides: {name} of [[mount]] in signer.toml"


MOUNT_TABLE: Final = """
[[mount]]
# Vault mounts (docs/vault.md): the signer makes their keys itself, and signs plain logins with them
realms = "vault-*"
max_keys = 16
max_lifetime_s = 86400
max_principals = 32
logins = ["*"]
denied_logins = []
extensions = [
  "permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc",
]
critical_options = ["force-command", "source-address", "verify-required"]
key_algorithms = [
  "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
  "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
]
burst = 2000
rate_per_minute = 600
"""
"""What an owner adds to `signer.toml` to have mounts; the demo does."""
