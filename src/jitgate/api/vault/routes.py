"""Every path of the Vault surface, what it lets in, and the act behind it. A test walks this table.

anyone   nobody needs a token: ways in, health, a mount's public key
itself   a token in force; nothing that its policies could forbid: to look at itself is in `default`, to end is a right
policy   a token in force whose policies allow this operation on this path; asked in the act's own transaction
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from jitgate.flow.outside import Outside
from jitgate.flow.vault import approle, devices, engine, jwt, mounts, policies, server, sign, tokens, userpass
from jitgate.flow.vault.asking import Answer, Asked, Operation
from jitgate.flow.vault.entries import list_entries

Access = Literal["anyone", "itself", "policy"]
Act = Callable[[Outside, Asked], Awaitable[Answer]]
_NAME: Final = r"(?P<name>[A-Za-z0-9._@+-]{1,160})"
_REST: Final = r"(?P<name>[A-Za-z0-9._@+/-]{1,160})"


@dataclass(frozen=True, slots=True)
class Route:
    """`under`: "" for a path of the surface itself, else the type of mount that it is below.

    `entry`: the kind of thing that a write makes, where `create` is enough for one that is not there.
    """

    operation: Operation
    pattern: re.Pattern[str]
    access: Access
    act: Act
    under: str = ""
    entry: str = ""
    sudo: bool = False
    records: bool = False
    """Its own refusals, as what they are."""

    @property
    def way_in(self) -> bool:
        return self.access == "anyone" and self.operation == "write"

    @property
    def told(self) -> bool:
        """To audit devices: all but what everybody may read, as often as they like."""
        return self.access != "anyone" or self.way_in


def _route(operations: str, path: str, access: Access, act: Act, under: str = "", **more: Any) -> list[Route]:  # noqa: ANN401  # Route's own
    pattern = re.compile(re.escape(path).replace("NAME", _NAME).replace("REST", _REST))
    words: tuple[Operation, ...] = ("read", "list", "write", "delete")
    return [Route(each, pattern, access, act, under, **more) for each in words if each in operations.split()]


ROUTES: Final[tuple[Route, ...]] = tuple(
    route
    for routes in (
        _route("read", "sys/health", "anyone", server.health),
        _route("read", "sys/seal-status", "anyone", server.seal_status),
        _route("read", "sys/leader", "anyone", server.leader),
        _route("read list", "sys/mounts", "policy", mounts.list_mounts),
        _route("write", "sys/mounts/REST", "policy", mounts.mount),
        _route("delete", "sys/mounts/REST", "policy", mounts.unmount),
        _route("read list", "sys/auth", "policy", mounts.list_mounts),
        _route("write", "sys/auth/REST", "policy", mounts.mount, sudo=True),
        _route("delete", "sys/auth/REST", "policy", mounts.unmount, sudo=True),
        _route("read list", "sys/policies/acl", "policy", policies.list_policies),
        _route("read", "sys/policies/acl/NAME", "policy", policies.read_policy),
        _route("write", "sys/policies/acl/NAME", "policy", policies.write_policy, entry="policy"),
        _route("delete", "sys/policies/acl/NAME", "policy", policies.delete_policy),
        _route("read list", "sys/policy", "policy", policies.list_policies),
        _route("read", "sys/policy/NAME", "policy", policies.read_policy),
        _route("write", "sys/policy/NAME", "policy", policies.write_policy, entry="policy"),
        _route("delete", "sys/policy/NAME", "policy", policies.delete_policy),
        _route("write", "sys/capabilities-self", "itself", policies.capabilities_self),
        _route("read list", "sys/audit", "policy", devices.list_devices, sudo=True),
        _route("write", "sys/audit/REST", "policy", devices.enable, sudo=True),
        _route("delete", "sys/audit/REST", "policy", devices.disable, sudo=True),
        _route("read", "sys/internal/counters/activity", "policy", devices.activity),
        _route("read", "auth/token/lookup-self", "policy", tokens.lookup_self),
        _route("write", "auth/token/lookup", "policy", tokens.lookup),
        _route("write", "auth/token/lookup-accessor", "policy", tokens.lookup),
        _route("write", "auth/token/renew-self", "policy", tokens.renew_self),
        _route("write", "auth/token/renew", "policy", tokens.renew),
        _route("write", "auth/token/renew-accessor", "policy", tokens.renew),
        _route("write", "auth/token/revoke-self", "itself", tokens.revoke_self),
        _route("write", "auth/token/revoke", "policy", tokens.revoke),
        _route("write", "auth/token/revoke-accessor", "policy", tokens.revoke),
        _route("list", "auth/token/accessors", "policy", tokens.list_accessors, sudo=True),
        _route("write", "auth/token/create", "policy", tokens.create),
        _route("list", "roles", "policy", engine.list_roles, under="ssh"),
        _route("read", "roles/NAME", "policy", engine.read_one_role, under="ssh"),
        _route("write", "roles/NAME", "policy", engine.write_role, under="ssh", entry="role"),
        _route("delete", "roles/NAME", "policy", engine.delete_role, under="ssh"),
        _route("read", "config/ca", "policy", engine.read_ca, under="ssh"),
        _route("write", "config/ca", "policy", engine.make_ca, under="ssh"),
        _route("delete", "config/ca", "policy", engine.retire_ca, under="ssh"),
        _route("read", "public_key", "anyone", engine.public_key, under="ssh"),
        _route("write", "sign/NAME", "policy", sign.sign, under="ssh", records=True),
        _route("write", "issue/NAME", "policy", sign.issue_pair, under="ssh", records=True),
        _route("write", "login/NAME", "anyone", userpass.login, under="userpass"),
        _route("list", "users", "policy", partial(list_entries, kind="user"), under="userpass"),
        _route("read", "users/NAME", "policy", userpass.read_user, under="userpass"),
        _route("write", "users/NAME", "policy", userpass.write_user, under="userpass", entry="user"),
        _route("delete", "users/NAME", "policy", userpass.delete_user, under="userpass"),
        _route("write", "users/NAME/password", "policy", userpass.write_password, under="userpass"),
        _route("write", "users/NAME/policies", "policy", userpass.write_policies, under="userpass"),
        _route("write", "login", "anyone", approle.login, under="approle"),
        _route("list", "role", "policy", partial(list_entries, kind="approle"), under="approle"),
        _route("read", "role/NAME", "policy", approle.read_role, under="approle"),
        _route("write", "role/NAME", "policy", approle.write_role, under="approle", entry="approle"),
        _route("delete", "role/NAME", "policy", approle.delete_role, under="approle"),
        _route("read", "role/NAME/role-id", "policy", approle.read_role_id, under="approle"),
        _route("write", "role/NAME/secret-id", "policy", approle.make_secret_id, under="approle"),
        _route("list", "role/NAME/secret-id", "policy", approle.list_secret_ids, under="approle"),
        _route("write", "role/NAME/secret-id/destroy", "policy", approle.destroy_secret_id, under="approle"),
        _route("write", "role/NAME/secret-id-accessor/destroy", "policy", approle.destroy_secret_id, under="approle"),
        _route("read", "config", "policy", jwt.read_config, under="jwt"),
        _route("write", "config", "policy", jwt.write_config, under="jwt"),
        _route("list", "role", "policy", partial(list_entries, kind="jwt"), under="jwt"),
        _route("read", "role/NAME", "policy", jwt.read_role, under="jwt"),
        _route("write", "role/NAME", "policy", jwt.write_role, under="jwt", entry="jwt"),
        _route("delete", "role/NAME", "policy", jwt.delete_role, under="jwt"),
        _route("write", "login", "anyone", jwt.login, under="jwt"),
    )
    for route in routes
)


def find(operation: Operation, under: str, path: str) -> tuple[Route, str] | None:
    """The route of a path below a mount of that type (or of the surface itself), and the name in it."""
    for route in ROUTES:
        if route.operation == operation and route.under == under and (match := route.pattern.fullmatch(path)):
            return route, match.groupdict().get("name") or ""
    return None


def paths_of(under: str, path: str) -> bool:
    """Whether the path is one for another operation."""
    return any(route.under == under and route.pattern.fullmatch(path) for route in ROUTES)
