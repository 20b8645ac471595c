"""A signing role as Vault's SSH engine has it: the same field names, read strictly.

What a role says and this surface cannot keep is refused when it is written. Lists that Vault writes with commas are
split here, once, and each item is checked; nothing is joined again but to be shown.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from jitgate.core.errors import BadInput
from jitgate.core.text import check_name, shown
from jitgate.ssh.cert import MAX_PRINCIPALS
from jitgate.ssh.options import USER_EXTENSIONS, check_options

ANY: Final = "*"
BACKDATE_MAX_S: Final = 60  # invariant 4
TTL_MAX_S: Final = 400 * 86400
OPTIONS: Final = frozenset({"force-command", "source-address", "verify-required"})
KEY_TYPES: Final = {
    "rsa": "ssh-rsa",
    "ssh-rsa": "ssh-rsa",
    "ed25519": "ssh-ed25519",
    "ssh-ed25519": "ssh-ed25519",
    "ec": "ecdsa",
    "ecdsa": "ecdsa",
    "ecdsa-sha2-nistp256": "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384": "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521": "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com": "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com": "sk-ecdsa-sha2-nistp256@openssh.com",
}
_PLAIN_S: Final = re.compile(r"[0-9]{0,9}")
_PARTS: Final = re.compile(r"(?:[0-9]{1,9}[smhd])+")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultRole:
    """The fields that are kept. `allowed_users` None: any login (`*`). `ttl_s` 0: the mount's own."""

    allowed_users: tuple[str, ...] | None = ()
    default_user: str = ""
    default_extensions: Mapping[str, str] = field(default_factory=dict)
    allowed_extensions: frozenset[str] = frozenset()
    default_critical_options: Mapping[str, str] = field(default_factory=dict)
    allowed_critical_options: frozenset[str] = frozenset()
    allowed_user_key_lengths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ttl_s: int = 0
    max_ttl_s: int = 0
    not_before_s: int = 30
    key_id_format: str = ""
    algorithm_signer: str = "default"


def read_role(said: Mapping[str, object]) -> tuple[VaultRole, tuple[str, ...]]:
    """The role in a request's fields, and the warnings that its writer is told. Raises `BadInput`."""
    if unknown := sorted(said.keys() - _READERS.keys() - _MUST.keys()):
        raise BadInput(f"unknown field {shown(unknown[0])}", "a misspelt restriction would be none: docs/vault.md")
    for name, (allowed, why) in _MUST.items():
        if name in said and _plain(said[name]) not in allowed:
            raise BadInput(f"{name} = {shown(str(said[name]))} is not taken: {why}", "docs/vault.md lists every field")
    if said.get("key_type") != "ca":
        raise BadInput("key_type is not ca", "one-time passwords are not there: key_type=ca")
    if not _truth(said.get("allow_user_certificates", False)):
        raise BadInput("allow_user_certificates is not true", "a mount signs user certificates and no other")
    values: dict[str, object] = {}
    for name, (target, read) in _READERS.items():
        if name in said:
            try:
                values[target] = read(said[name])
            except BadInput as error:
                raise BadInput(f"{name}: {error.what}", error.hint) from None
    role = VaultRole(**values)  # type: ignore[arg-type]  # each value came from its field's reader
    if role.max_ttl_s and role.ttl_s > role.max_ttl_s:
        raise BadInput('"ttl" value must be less than "max_ttl" when both are specified')
    return role, tuple(_warnings(role))


def as_fields(role: VaultRole) -> dict[str, object]:
    """The role as Vault's own answer has it, every field of it."""
    everybody = ANY if role.allowed_users is None else ",".join(role.allowed_users)
    lengths = {name: list(sizes) for name, sizes in role.allowed_user_key_lengths.items()}
    return {
        "algorithm_signer": role.algorithm_signer,
        "allow_bare_domains": False,
        "allow_empty_principals": False,
        "allow_host_certificates": False,
        "allow_subdomains": False,
        "allow_user_certificates": True,
        "allow_user_key_ids": False,
        "allowed_critical_options": ",".join(sorted(role.allowed_critical_options)),
        "allowed_domains": "",
        "allowed_domains_template": False,
        "allowed_extensions": ",".join(sorted(role.allowed_extensions)),
        "allowed_user_key_lengths": lengths,
        "allowed_users": everybody,
        "allowed_users_template": False,
        "default_critical_options": dict(role.default_critical_options),
        "default_extensions": dict(role.default_extensions),
        "default_extensions_template": False,
        "default_user": role.default_user,
        "default_user_template": False,
        "issuer_ref": "default",
        "key_id_format": role.key_id_format,
        "key_type": "ca",
        "max_ttl": role.max_ttl_s,
        "not_before_duration": role.not_before_s,
        "ttl": role.ttl_s,
    }


def seconds(value: object) -> int:
    """Vault's durations: a number of seconds, or text such as `4h`, `1h30m`, `7d`. Raises `BadInput`."""
    if isinstance(value, bool):
        raise BadInput("not a duration: a truth value")
    text = str(value) if isinstance(value, int) else value
    total = -1
    if isinstance(text, str) and _PLAIN_S.fullmatch(text):
        total = int(text or "0")
    elif isinstance(text, str) and _PARTS.fullmatch(text):
        total = sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", text))
    if not 0 <= total <= TTL_MAX_S:
        raise BadInput(f"not a duration: {shown(str(value))}", "seconds, or like 4h, 1h30m, 7d")
    return total


def split_list(value: object, what: str = "list") -> list[str]:
    """A list, or Vault's comma-separated text, split once. Items keep every character they have but spaces around."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(each, str) for each in items):
        raise BadInput(f"not a {what}", "text with commas, or a list of texts")
    return [each.strip(" ") for each in items if each.strip(" ")]


def principals(value: object) -> tuple[str, ...]:
    """Plain logins, each once, in the order given. Raises `BadInput` for one that is none: scoped, wild, odd."""
    found = tuple(dict.fromkeys(check_name("login", each) for each in split_list(value)))
    if len(found) > MAX_PRINCIPALS:
        raise BadInput(f"{len(found)} principals", f"at most {MAX_PRINCIPALS}")
    return found


def options(value: object) -> dict[str, str]:
    """Critical options whose values hold (`ssh.options`). Raises `BadInput`."""
    found = _map(value)
    for name, text in found.items():
        if name not in OPTIONS:
            raise BadInput(f"unknown critical option {shown(name)}", f"known are {', '.join(sorted(OPTIONS))}")
        check_options(((name, text),), (), user=True, sk=True)
    return found


def extensions(value: object) -> dict[str, str]:
    """Extensions that sshd knows; they are flags. Raises `BadInput`."""
    found = _map(value)
    for name, text in found.items():
        if name not in USER_EXTENSIONS or text:
            raise BadInput(f"unknown extension {shown(name)}", f"flags: {', '.join(sorted(USER_EXTENSIONS))}")
    return found


def _map(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise BadInput("not a map of texts", 'as JSON: {"permit-pty": ""}')
    return dict(sorted(value.items()))


def _users(value: object) -> tuple[str, ...] | None:
    items = split_list(value)
    return None if ANY in items else principals(items)


def _user(value: object) -> str:
    if not isinstance(value, str):
        raise BadInput("not a login")
    return check_name("login", value) if value else ""


def _names(known: frozenset[str]) -> Callable[[object], frozenset[str]]:
    def read(value: object) -> frozenset[str]:
        items = split_list(value)
        if ANY in items:
            return known
        if unknown := [each for each in items if each not in known]:
            raise BadInput(f"unknown name {shown(unknown[0])}", f"known are {', '.join(sorted(known))}")
        return frozenset(items)

    return read


def _lengths(value: object) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, dict):
        raise BadInput("not a map", 'as JSON: {"rsa": [3072, 4096]}')
    found = {}
    for name, sizes in value.items():
        listed = sizes if isinstance(sizes, list) else [sizes]
        if name not in KEY_TYPES or not all(isinstance(each, int) and not isinstance(each, bool) for each in listed):
            raise BadInput(f"unknown key type or size at {shown(str(name))}", f"types: {', '.join(KEY_TYPES)}")
        found[str(name)] = tuple(listed)
    return found


def _backdate(value: object) -> int:
    if (found := seconds(value)) > BACKDATE_MAX_S:
        raise BadInput(f"{found} s before now", f"at most {BACKDATE_MAX_S}")
    return found


def _words(value: object) -> str:
    if not isinstance(value, str) or len(value) > 256 or not (value.isascii() and value.isprintable()):  # noqa: PLR2004  # no format is longer
        raise BadInput("not a short plain text")
    return value


def _plain(value: object) -> object:
    return value.lower() if isinstance(value, str) and value.lower() in ("true", "false") else value


def _truth(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _warnings(role: VaultRole) -> list[str]:
    found = []
    if role.allowed_users is None:
        found.append(
            "allowed_users is *: whoever may sign under this role chooses any login, root among them, on every host "
            "that trusts this mount's CA"
        )
    if not role.default_user:
        found.append("there is no default_user: signing without valid_principals will be refused")
    if not role.ttl_s:
        found.append("there is no ttl: certificates live as long as the mount's default, 15 minutes")
    if role.key_id_format:
        found.append("key_id_format is kept and not used: a key id names grant and holder")
    if role.algorithm_signer != "default":
        found.append("algorithm_signer is kept and not used: the CA key is ed25519")
    return found


_OFF: Final = frozenset({False, "false"})
_MUST: Final[dict[str, tuple[frozenset[object], str]]] = {
    "key_type": (frozenset({"ca"}), "one-time passwords are not there"),
    "allow_user_certificates": (frozenset({True, "true"}), "a mount signs user certificates and no other"),
    "allow_host_certificates": (_OFF, "hosts get their certificates from their realm's host CA"),
    "allow_empty_principals": (_OFF, "a certificate without principals opens every login"),
    "allow_user_key_ids": (_OFF, "a key id names grant and holder"),
    "allowed_users_template": (_OFF, "templates of identity data are not there"),
    "default_user_template": (_OFF, "templates of identity data are not there"),
    "default_extensions_template": (_OFF, "templates of identity data are not there"),
    "allowed_domains_template": (_OFF, "templates of identity data are not there"),
    "allow_commas_in_identity_templates": (_OFF, "templates of identity data are not there"),
    "allow_wildcards_in_identity_templates": (_OFF, "templates of identity data are not there"),
    "allow_bare_domains": (_OFF, "host certificates are not there"),
    "allow_subdomains": (_OFF, "host certificates are not there"),
    "allowed_domains": (frozenset({""}), "host certificates are not there"),
    "issuer_ref": (frozenset({"", "default"}), "a mount has one CA key in use"),
}
_READERS: Final[dict[str, tuple[str, Callable[[object], object]]]] = {
    "allowed_users": ("allowed_users", _users),
    "default_user": ("default_user", _user),
    "default_extensions": ("default_extensions", extensions),
    "allowed_extensions": ("allowed_extensions", _names(USER_EXTENSIONS)),
    "default_critical_options": ("default_critical_options", options),
    "allowed_critical_options": ("allowed_critical_options", _names(OPTIONS)),
    "allowed_user_key_lengths": ("allowed_user_key_lengths", _lengths),
    "ttl": ("ttl_s", seconds),
    "max_ttl": ("max_ttl_s", seconds),
    "not_before_duration": ("not_before_s", _backdate),
    "key_id_format": ("key_id_format", _words),
    "algorithm_signer": ("algorithm_signer", lambda value: _words(value) or "default"),
}
FIELDS: Final = frozenset(_READERS) | frozenset(_MUST)
"""Every field of a role that is known by name: `docs/vault.md` has a row for each."""

assert {target for target, _ in _READERS.values()} == {each.name for each in fields(VaultRole)}  # noqa: S101
