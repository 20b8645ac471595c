"""Whether a signing role gives the certificate that the holder of a Vault token asks for. `PlainPermit` is made here.

Rules, in order; each no is `Denied` with its own code:
1. `vault_cert_type`   a user certificate
2. `vault_key_id`      the client names no key id
3. `vault_key`         the key's type and size are among the role's, where it lists some
4. `vault_principals`  the logins asked for, else `default_user`: at least one; each in `allowed_users`, or that one
5. `vault_ttl`         at most what the role gives; never raised, never cut in silence
6. `vault_options`     the role's critical options stay as they are; a client adds only what is in the role's list
7. `vault_extensions`  the role's own, or a selection out of `allowed_extensions`
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput, Denied
from jitgate.core.text import shown
from jitgate.identity.model import VerifiedIdentity
from jitgate.policy.vault_role import KEY_TYPES, VaultRole, extensions, options, principals, seconds
from jitgate.ssh.options import SK_ONLY
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key_line

TTL_DEFAULT_S: Final = 15 * 60
ASKED: Final = frozenset(
    {"public_key", "valid_principals", "ttl", "cert_type", "key_id", "critical_options", "extensions"}
)
_EMPTY: Final[tuple[object, ...]] = ("", None, {}, [])
_CURVE: Final = re.compile(r"nistp([0-9]+)")


@dataclass(frozen=True, slots=True)
class PlainAsk:
    """What a client asks for. `ttl_s` 0: what the role says; `options`, `extensions` None: the role's own."""

    key: PublicKey
    principals: tuple[str, ...] = ()
    ttl_s: int = 0
    cert_type: str = "user"
    key_id: str = ""
    options: Mapping[str, str] | None = None
    extensions: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class PlainPermit:
    """Yes, under exactly one role of a mount. `logins`: plain, for every host that trusts the mount's CA."""

    identity: VerifiedIdentity
    realm: str
    role: str
    policy_digest: str
    logins: tuple[str, ...]
    ttl_s: int
    backdate_s: int
    options: tuple[tuple[str, str], ...]
    extensions: tuple[str, ...]
    decided_at: Micros


def read_ask(said: Mapping[str, object]) -> PlainAsk:
    """A request's fields. Raises `BadInput`, `FormatError` for the key."""
    if unknown := sorted(said.keys() - ASKED):
        raise BadInput(f"unknown field {shown(unknown[0])}", f"known are {', '.join(sorted(ASKED))}")
    line = said.get("public_key")
    if not isinstance(line, str) or not line.strip():
        raise BadInput("missing public_key", "public_key=@$HOME/.ssh/id_ed25519.pub")
    cert_type, key_id = said.get("cert_type") or "user", said.get("key_id") or ""
    if not isinstance(cert_type, str) or not isinstance(key_id, str):
        raise BadInput("cert_type or key_id is no text")
    given = {name: said[name] for name in ("critical_options", "extensions") if said.get(name) not in _EMPTY}
    return PlainAsk(
        key=parse_public_key_line(line.strip())[0],
        principals=principals("" if said.get("valid_principals") is None else said["valid_principals"]),
        ttl_s=0 if said.get("ttl") is None else seconds(said["ttl"]),
        cert_type=cert_type,
        key_id=key_id,
        options=options(given["critical_options"]) if "critical_options" in given else None,
        extensions=extensions(given["extensions"]) if "extensions" in given else None,
    )


def decide_plain(
    identity: VerifiedIdentity, ask: PlainAsk, role: VaultRole, *, realm: str, name: str, digest: str, now: Micros
) -> PlainPermit:
    """`digest`: of the role and the policies that the answer rests on. Raises `Denied` by the rules above."""
    if ask.cert_type != "user":
        raise Denied("cert_type 'host' is not allowed by role", "a mount signs user certificates", code=_CODES[1])
    if ask.key_id:
        raise Denied("setting key_id is not allowed by role", "a key id names grant and holder", code=_CODES[2])
    _check_key(ask.key, role)
    return PlainPermit(
        identity=identity,
        realm=realm,
        role=name,
        policy_digest=digest,
        logins=_logins(ask, role),
        ttl_s=_ttl(ask, role),
        backdate_s=role.not_before_s,
        options=_options(ask, role),
        extensions=_extensions(ask, role),
        decided_at=now,
    )


_CODES: Final = ("", "vault_cert_type", "vault_key_id")


def _check_key(key: PublicKey, role: VaultRole) -> None:
    if not role.allowed_user_key_lengths:
        return
    family = "ecdsa" if key.algorithm.startswith("ecdsa-") else str(key.algorithm)
    for name, sizes in role.allowed_user_key_lengths.items():
        if KEY_TYPES[name] in (family, key.algorithm) and (not any(sizes) or key_bits(key) in sizes):
            return
    what = f"public_key of type {key.algorithm} and {key_bits(key)} bits is not allowed by role"
    raise Denied(what, "allowed_user_key_lengths says which are", code="vault_key")


def key_bits(key: PublicKey) -> int:
    """Of an RSA key's modulus or of an ECDSA key's curve; 0 for a type that has one size."""
    if key.algorithm is Algorithm.RSA:
        from jitgate.ssh.wire import Reader  # noqa: PLC0415  # only here

        reader = Reader(key.blob)
        reader.string()
        reader.mpint()
        return reader.mpint().bit_length()
    match = _CURVE.search(key.algorithm)
    return int(match[1]) if match else 0


def _logins(ask: PlainAsk, role: VaultRole) -> tuple[str, ...]:
    logins = ask.principals or ((role.default_user,) if role.default_user else ())
    if not logins:
        hint = "name logins: valid_principals=LOGIN; or give the role a default_user"
        raise Denied("empty valid principals not allowed by role", hint, code="vault_principals")
    if role.allowed_users is not None:
        allowed = {*role.allowed_users, role.default_user} - {""}
        if outside := [login for login in logins if login not in allowed]:
            what = f"{shown(outside[0])} is not a valid value for valid_principals"
            raise Denied(what, f"the role allows {', '.join(sorted(allowed)) or 'none'}", code="vault_principals")
    return logins


def _ttl(ask: PlainAsk, role: VaultRole) -> int:
    usual = role.ttl_s or min(TTL_DEFAULT_S, role.max_ttl_s or TTL_DEFAULT_S)
    most = role.max_ttl_s or usual
    if ask.ttl_s > most:
        raise Denied(f"ttl is larger than maximum allowed {most} s", "ask for less, or for none", code="vault_ttl")
    return ask.ttl_s or usual


def _options(ask: PlainAsk, role: VaultRole) -> tuple[tuple[str, str], ...]:
    """What a client sends is the whole map in Vault. Here it has to hold the role's own, and may add to them."""
    own = dict(role.default_critical_options)
    if ask.options is not None:
        if gone := sorted(name for name, value in own.items() if ask.options.get(name) != value):
            what = f"critical_options would replace the role's {', '.join(gone)}"
            raise Denied(what, "send none, or the role's own and more", code="vault_options")
        if extra := sorted(set(ask.options) - set(own) - role.allowed_critical_options):
            what = f"critical options not on allowed list: {', '.join(extra)}"
            raise Denied(what, "allowed_critical_options of the role lists them", code="vault_options")
        own |= ask.options
    return tuple(sorted(own.items()))


def _extensions(ask: PlainAsk, role: VaultRole) -> tuple[str, ...]:
    if ask.extensions is None:
        chosen = set(role.default_extensions)
    else:
        chosen = set(ask.extensions)
        if extra := sorted(chosen - role.allowed_extensions - set(role.default_extensions)):
            what = f"extensions not on allowed list: {', '.join(extra)}"
            raise Denied(what, "allowed_extensions of the role lists them", code="vault_extensions")
    return tuple(sorted(chosen if ask.key.algorithm.is_sk else chosen - SK_ONLY))
