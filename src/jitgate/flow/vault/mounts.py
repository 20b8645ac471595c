"""`sys/mounts` and `sys/auth`: what is mounted where. A secrets engine is a realm of its own."""

import re
from collections.abc import Mapping
from typing import Final

from jitgate.audit.events import EventType
from jitgate.ca.realms import DEFAULT_REALM, CaKind, Phase
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.text import check_reason
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, read, said, text, write
from jitgate.flow.vault.tokens import end_tokens
from jitgate.grants.model import MOUNT_REALM
from jitgate.identity.vault import Mount, MountKind, check_mount_path

TYPES: Final[Mapping[MountKind, frozenset[str]]] = {
    "secret": frozenset({"ssh"}),
    "auth": frozenset({"userpass", "approle", "jwt"}),
}
MOUNTS_MAX: Final = 64
_REALM_MAX: Final = 32


async def list_mounts(outside: Outside, asked: Asked) -> Answer:
    kind = _kind(asked)

    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        found = {f"{each.path}/": _shown(each) for each in tx.vault.mounts() if each.kind == kind}
        if kind == "auth":
            token = Mount("0" * 26, "auth", "token", "token", DEFAULT_REALM, "token based credentials", 0)
            found = {"token/": _shown(token)} | found
        return Answer(dict(sorted(found.items())), beside=True)

    return await read(outside, asked, job)


async def mount(outside: Outside, asked: Asked) -> Answer:
    """`secrets enable`, `auth enable`."""
    kind, path = _kind(asked), check_mount_path(asked.name)
    wanted = text(asked, "type")
    if wanted not in TYPES[kind]:
        hint = f"there is {', '.join(sorted(TYPES[kind]))}"
        raise BadInput(f"plugin not found in the catalog: {wanted[:40]!r}", hint)
    description = check_reason(text(asked, "description"))

    def job(tx: Tx, holder: Holder) -> Answer:
        now, there = outside.clock(), [each for each in tx.vault.mounts() if each.kind == kind]
        for each in there:
            if f"{each.path}/".startswith(f"{path}/") or f"{path}/".startswith(f"{each.path}/"):
                raise BadInput(f"path is already in use at {each.path}/")
        if len(there) >= MOUNTS_MAX:
            raise BadInput(f"{len(there)} mounts are there already", "disable one")
        realm = _new_realm(tx, path, now) if kind == "secret" else DEFAULT_REALM
        made = Mount(outside.new_id(now), kind, path, wanted, realm, description, now)
        tx.vault.add_mount(made)
        detail = (("path", asked.path), ("type", wanted))
        tx.log.append(said(outside, EventType.VAULT_MOUNTED, holder, asked, *detail, realm=realm, target=_target(made)))
        return NOTHING

    return await write(outside, asked, job)


async def unmount(outside: Outside, asked: Asked) -> Answer:
    """What was under it is gone: roles and users, its tokens, its CA key's use. Its realm's name is nobody else's."""
    kind, path = _kind(asked), asked.name.removesuffix("/")

    def job(tx: Tx, holder: Holder) -> Answer:
        now, found = outside.clock(), tx.vault.mount(kind, path)
        if found is None:
            return NOTHING  # as Vault: whether there was one is not said
        tx.vault.remove_mount(found.id, now)
        end_tokens(tx, outside, asked, holder, tx.vault.tokens(now, mount=found.id), "its mount was disabled")
        for authority in tx.authorities.all():
            if authority.realm == found.realm and authority.kind is CaKind.MOUNT:
                tx.authorities.set_phase(authority.id, Phase.RETIRED)
        tx.move_epoch()
        detail = (("path", asked.path), ("type", found.type))
        tx.log.append(
            said(outside, EventType.VAULT_UNMOUNTED, holder, asked, *detail, realm=found.realm, target=_target(found))
        )
        return NOTHING

    return await write(outside, asked, job)


def mount_at(tx: Tx, kind: MountKind, path: str) -> tuple[Mount, str] | None:
    """The mount that a path is below, and the rest of it."""
    for each in tx.vault.mounts():
        if each.kind == kind and path.startswith(f"{each.path}/"):
            return each, path.removeprefix(f"{each.path}/")
    return None


def _new_realm(tx: Tx, path: str, now: Micros) -> str:
    """`vault-` and the path as a realm may be called; with a number behind it where that was another mount's."""
    base = MOUNT_REALM + (re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "x")
    known = {name for name, _ in tx.realms.all()}
    for number in range(1, 1000):
        suffix = f"-{number}" if number > 1 else ""
        name = base[: _REALM_MAX - len(suffix)].rstrip("-") + suffix
        if name not in known:
            tx.realms.add(name, now)
            return name
    raise BadInput(f"no realm is left for {path}", "mount at another path")


def _kind(asked: Asked) -> MountKind:
    return "auth" if asked.path.startswith("sys/auth") else "secret"


def _target(found: Mount) -> str:
    return f"realm:{found.realm}"


def _shown(found: Mount) -> dict[str, object]:
    config: dict[str, object] = {"default_lease_ttl": 0, "force_no_cache": False, "max_lease_ttl": 0}
    if found.kind == "auth":
        config["token_type"] = "default-service"  # noqa: S105  # the word
    return {
        "accessor": f"{found.type}_{found.id.lower()[-8:]}",
        "config": config,
        "description": found.description,
        "external_entropy_access": False,
        "local": False,
        "options": None,
        "plugin_version": "",
        "running_plugin_version": "",
        "running_sha256": "",
        "seal_wrap": False,
        "type": found.type,
        "uuid": found.id,
    }
