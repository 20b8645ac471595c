"""Every act of the Vault surface is an entry, with the setting's name and without a secret; unrecorded is not done."""

import json
import re
from typing import Any

import pytest
from tests.corp import Corp
from tests.providers import ISSUER
from tests.vault_world import ARTICLE, LINE, PASSWORD, SIGN_ONLY, Vault, open_vault
from tests.world import World

from jitgate.adapters.db.log import Log
from jitgate.api.vault.routes import ROUTES
from jitgate.flow.ports import Tx

SETTING = "vault.plain_logins_unregistered_keys"
AUDIENCE = "https://jit.example.com/vault"
METHODS = {"write": "PUT", "delete": "DELETE"}
PLACES = {"": "", "ssh": "ssh/", "userpass": "auth/userpass/", "approle": "auth/approle/", "jwt": "auth/jwt/"}
ROLE = {"bound_audiences": AUDIENCE, "bound_subject": "job", "policies": "ssh-access"}

# Everything that changes something or lets somebody in, in an order in which it works: operation, path as the route
# has it, what stands for NAME, body, and the type of the entry.
ACTS: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("write", "sys/mounts/NAME", "other", {"type": "ssh"}, "vault.mounted"),
    ("delete", "sys/mounts/NAME", "other", {}, "vault.unmounted"),
    ("write", "sys/auth/NAME", "second", {"type": "userpass"}, "vault.mounted"),
    ("delete", "sys/auth/NAME", "second", {}, "vault.unmounted"),
    ("write", "sys/policies/acl/NAME", "p", {"policy": SIGN_ONLY}, "vault.written"),
    ("delete", "sys/policies/acl/NAME", "p", {}, "vault.deleted"),
    ("write", "sys/policy/NAME", "q", {"policy": SIGN_ONLY}, "vault.written"),
    ("delete", "sys/policy/NAME", "q", {}, "vault.deleted"),
    ("write", "sys/audit/NAME", "file", {"type": "file", "options": {"file_path": "/x/a.log"}}, "vault.written"),
    ("delete", "sys/audit/NAME", "file", {}, "vault.deleted"),
    ("write", "ssh/roles/NAME", "r", ARTICLE, "vault.written"),
    ("write", "ssh/sign/NAME", "r", {"public_key": LINE}, "certificate.issued"),
    ("write", "ssh/issue/NAME", "r", {}, "certificate.issued"),
    ("delete", "ssh/roles/NAME", "r", {}, "vault.deleted"),
    ("delete", "ssh/config/ca", "", {}, "vault.deleted"),
    ("write", "ssh/config/ca", "", {}, "vault.written"),
    ("write", "auth/userpass/users/NAME", "u", {"password": PASSWORD, "policies": "x"}, "vault.written"),
    ("write", "auth/userpass/users/NAME/password", "u", {"password": PASSWORD + "2"}, "vault.written"),
    ("write", "auth/userpass/users/NAME/policies", "u", {"policies": "ssh-access"}, "vault.written"),
    ("write", "auth/userpass/login/NAME", "u", {"password": PASSWORD + "2"}, "vault.token_made"),
    ("delete", "auth/userpass/users/NAME", "u", {}, "vault.deleted"),
    ("write", "auth/approle/role/NAME", "a", {"policies": "ssh-access"}, "vault.written"),
    ("write", "auth/approle/role/NAME/secret-id", "a", {}, "vault.written"),
    ("write", "auth/approle/login", "", {}, "vault.token_made"),
    ("write", "auth/approle/role/NAME/secret-id/destroy", "a", {}, "vault.deleted"),
    ("write", "auth/approle/role/NAME/secret-id", "a", {}, "vault.written"),
    ("write", "auth/approle/role/NAME/secret-id-accessor/destroy", "a", {}, "vault.deleted"),
    ("delete", "auth/approle/role/NAME", "a", {}, "vault.deleted"),
    ("write", "auth/jwt/config", "", {"bound_issuer": ISSUER}, "vault.written"),
    ("write", "auth/jwt/role/NAME", "j", ROLE, "vault.written"),
    ("write", "auth/jwt/login", "", {}, "vault.token_made"),
    ("delete", "auth/jwt/role/NAME", "j", {}, "vault.deleted"),
    ("write", "auth/token/create", "", {"policies": ["ssh-access"]}, "vault.token_made"),
    ("write", "auth/token/renew", "", {}, "vault.token_renewed"),
    ("write", "auth/token/renew-accessor", "", {}, "vault.token_renewed"),
    ("write", "auth/token/renew-self", "", {}, "vault.token_renewed"),
    ("write", "auth/token/revoke-accessor", "", {}, "vault.token_ended"),
    ("write", "auth/token/create", "", {"policies": ["ssh-access"]}, "vault.token_made"),
    ("write", "auth/token/revoke", "", {}, "vault.token_ended"),
    ("write", "auth/token/create", "", {"policies": ["ssh-access"]}, "vault.token_made"),
    ("write", "auth/token/revoke-self", "", {}, "vault.token_ended"),
]
ONLY_LOOK = {"sys/capabilities-self", "auth/token/lookup", "auth/token/lookup-accessor"}


@pytest.fixture
def corp(world: World) -> Corp:
    return Corp(world)


async def opened(corp: Corp) -> Vault:
    vault = await open_vault(corp.world)
    for kind in ("approle", "jwt"):
        await vault.ok("POST", f"sys/auth/{kind}", {"type": kind})
    return vault


def test_the_list_has_every_route_that_changes_something():
    found = set()
    for route in ROUTES:
        pattern = re.sub(r"\(\?P<name>[^)]*\)", "NAME", route.pattern.pattern).replace("\\", "")
        if route.operation in METHODS and PLACES[route.under] + pattern not in ONLY_LOOK:
            found.add((route.operation, PLACES[route.under] + pattern))
    assert {(operation, path) for operation, path, *_ in ACTS} == found


async def test_every_act_is_an_entry_without_a_secret(corp: Corp):
    """CVE-2025-62513, CVE-2025-62705, CVE-2026-46358: what is left out of an audit, and what leaks into it."""
    vault = await opened(corp)
    world, kept = corp.world, Kept(corp)
    secrets = {PASSWORD, PASSWORD + "2", vault.root}
    for operation, path, name, body, kind in ACTS:
        before = await world.size()
        asked = path.replace("NAME", name)
        answer = await vault.ok(METHODS[operation], asked, kept.body(asked, body), kept.token(asked))
        kept.take(answer)
        if (operation, asked) == ("write", "auth/approle/role/a"):
            kept.role_id = (await vault.ok("GET", f"{asked}/role-id"))["data"]["role_id"]
        after = await world.events(after=before)
        assert kind in [event["type"] for event in after], (operation, asked)
        mine = [event for event in after if event["type"].startswith(("vault.", "grant.opened", "certificate."))]
        assert {event["detail"]["setting"] for event in mine} == {SETTING}
    text = json.dumps(await world.events())
    for secret in secrets | kept.secrets:
        assert secret not in text


class Kept:
    """What one answer gives and a later request needs."""

    def __init__(self, corp: Corp) -> None:
        self._corp = corp
        self.secrets: set[str] = set()
        self.role_id = self.secret_id = self.secret_accessor = self.child = self.child_accessor = ""

    def token(self, path: str) -> str | None:
        if "/login" in path:
            return ""
        return self.child if path in ("auth/token/renew-self", "auth/token/revoke-self") else None

    def body(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        more: dict[str, dict[str, Any]] = {
            "auth/approle/login": {"role_id": self.role_id, "secret_id": self.secret_id},
            "auth/approle/role/a/secret-id/destroy": {"secret_id": self.secret_id},
            "auth/approle/role/a/secret-id-accessor/destroy": {"secret_id_accessor": self.secret_accessor},
            "auth/jwt/login": {"role": "j", "jwt": self._corp.fake.token(sub="job", aud=AUDIENCE)},
            "auth/token/renew": {"token": self.child},
            "auth/token/renew-accessor": {"accessor": self.child_accessor},
            "auth/token/revoke": {"token": self.child},
            "auth/token/revoke-accessor": {"accessor": self.child_accessor},
        }
        return body | more.get(path, {})

    def take(self, answer: dict[str, Any]) -> None:
        auth, data = answer.get("auth") or {}, answer.get("data") or {}
        if auth.get("client_token"):
            self.child, self.child_accessor = auth["client_token"], auth["accessor"]
            self.secrets.add(self.child)
        if "secret_id" in data:
            self.secret_id, self.secret_accessor = data["secret_id"], data["secret_id_accessor"]
            self.secrets.add(self.secret_id)
        if "private_key" in data:
            self.secrets.add(data["private_key"])


async def test_an_act_that_cannot_be_recorded_is_not_done(corp: Corp, monkeypatch: pytest.MonkeyPatch):
    vault = await opened(corp)
    world, token = corp.world, await vault.user()

    def rows(tx: Tx) -> list[Any]:
        mounts = [each.id for each in tx.vault.mounts()]
        entries = [tx.vault.entries(m, k) for m in ["", *mounts] for k in ("role", "user", "policy", "device")]
        return [mounts, entries, tx.vault.tokens(world.clock()), tx.grants.latest(5), tx.authorities.all()]

    before = await world.store.read(rows)

    def full(_self: Log, _event: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Log, "append", full)
    for method, path, body, who in (
        ("PUT", "ssh/sign/user-role", {"public_key": LINE}, token),
        ("PUT", "ssh/roles/new", ARTICLE, None),
        ("PUT", "auth/userpass/users/new", {"password": PASSWORD}, None),
        ("PUT", "auth/userpass/login/testuser", {"password": PASSWORD}, ""),
        ("PUT", "sys/policies/acl/new", {"policy": SIGN_ONLY}, None),
        ("POST", "sys/mounts/new", {"type": "ssh"}, None),
        ("DELETE", "sys/mounts/ssh", None, None),
        ("PUT", "auth/token/create", {"policies": ["ssh-access"]}, None),
        ("PUT", "auth/token/revoke-self", {}, token),
    ):
        assert (await vault.send(method, path, body, who)).status >= 500, path
    monkeypatch.undo()
    assert await world.store.read(rows) == before
