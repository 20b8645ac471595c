"""Roles and policies of another Vault, written here by the same acts, and so by the same checks, as a client's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from jitgate.audit.events import Actor
from jitgate.core.clock import MINUTE
from jitgate.core.errors import BadInput, Error
from jitgate.core.secret import Secret
from jitgate.core.text import check_name
from jitgate.flow.outside import Outside
from jitgate.flow.vault import engine, mounts, policies, tokens
from jitgate.flow.vault.asking import Asked
from jitgate.identity.vault import check_mount_path
from jitgate.policy.vault_acl import RESERVED, check_policy_name, parse_policy
from jitgate.policy.vault_role import read_role

SOURCE = ""
_EMPTY: tuple[object, ...] = (None, "", 0, False, {}, [])


@dataclass(frozen=True, slots=True)
class Brought:
    """One thing of the other Vault; `words`: why it was not taken, or what to know of it."""

    kind: str
    name: str
    taken: bool
    words: tuple[str, ...]


async def bring_over(
    outside: Outside,
    actor: Actor,
    person: str,
    mount: str,
    roles: Mapping[str, Mapping[str, object]],
    texts: Mapping[str, str],
    *,
    dry_run: bool,
) -> list[Brought]:
    """Everything that is taken is taken; the others are named. The mount is made if it is not there.

    `person`: the admin in whose name it is written. Raises `NotFound`, `Denied` for one who is none.
    """
    path = check_mount_path(mount)
    if dry_run:
        looks = [("role", name, partial(_role, name, roles[name])) for name in sorted(roles)]
        looks += [("policy", name, partial(_policy, name, texts[name])) for name in sorted(set(texts) - RESERVED)]
        return [_looked_at(*each) for each in looks]
    _, secret = await tokens.admin_token(outside, actor, person, 5 * MINUTE)
    try:
        return await _written(outside, secret, path, roles, texts)
    finally:
        asked = Asked("write", "auth/token/revoke-self", {}, SOURCE, secret)
        await tokens.revoke_self(outside, asked)


async def _written(
    outside: Outside,
    secret: Secret[str],
    path: str,
    roles: Mapping[str, Mapping[str, object]],
    texts: Mapping[str, str],
) -> list[Brought]:
    if await outside.store.read(lambda tx: tx.vault.mount("secret", path)) is None:
        await mounts.mount(outside, Asked("write", f"sys/mounts/{path}", {"type": "ssh"}, SOURCE, secret, name=path))
    mount = await outside.store.read(lambda tx: tx.vault.mount("secret", path))
    done = []
    for name in sorted(roles):
        try:
            _role(name, roles[name])
            asked = Asked("write", f"{path}/roles/{name}", _given(roles[name]), SOURCE, secret, mount, name)
            answer = await engine.write_role(outside, asked)
            done.append(Brought("role", name, True, answer.warnings))
        except Error as error:
            done.append(Brought("role", name, False, (error.what,)))
    for name in sorted(set(texts) - RESERVED):
        try:
            _policy(name, texts[name])
            asked = Asked("write", f"sys/policies/acl/{name}", {"policy": texts[name]}, SOURCE, secret, name=name)
            await policies.write_policy(outside, asked)
            done.append(Brought("policy", name, True, ()))
        except Error as error:
            done.append(Brought("policy", name, False, (error.what,)))
    return done


def _looked_at(kind: str, name: str, look: Callable[[], tuple[str, ...]]) -> Brought:
    try:
        words = look()
    except Error as error:
        return Brought(kind, name, False, (error.what,))
    return Brought(kind, name, True, words)


def _role(name: str, fields: Mapping[str, object]) -> tuple[str, ...]:
    check_name("role", name)
    return read_role(_given(fields))[1]


def _policy(name: str, text: str) -> tuple[str, ...]:
    check_policy_name(name)
    parse_policy(text)
    return ()


def _given(fields: Mapping[str, object]) -> dict[str, object]:
    """What says something: a Vault's answer names every field, most of them empty."""
    if not isinstance(fields, dict):
        raise BadInput("a role that is no object")
    return {name: value for name, value in fields.items() if value not in _EMPTY}
