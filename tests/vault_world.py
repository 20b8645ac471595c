"""The Vault surface in a test's own process: the world of `tests/world.py`, with the surface switched on."""

import json
from dataclasses import dataclass
from typing import Any

from tests.client import Answer, Call
from tests.unit.ca.samples import ORIGIN
from tests.world import HOME, OPERATOR, World

from jitgate.ca.mounts import MOUNT_TABLE
from jitgate.ca.rules import default_rules, read_rules
from jitgate.flow.vault.settings import VaultSettings
from jitgate.flow.vault.tokens import admin_token
from jitgate.ssh.private import generate_ed25519

ARTICLE = {
    "allow_user_certificates": True,
    "allowed_users": "*",
    "default_extensions": {"permit-pty": ""},
    "key_type": "ca",
    "default_user": "ubuntu",
    "ttl": "4h",
}
RULES = read_rules(default_rules(ORIGIN, "default", user_key="user", host_key="host", log_key="log") + MOUNT_TABLE)
SIGN_ONLY = 'path "ssh/sign/user-role" { capabilities = ["create", "update"] }'
LINE = generate_ed25519().public.line("laptop")
PASSWORD = "changeMe123"


@dataclass
class Vault:
    world: World
    root: str = ""

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str | None = None,
        source: str = HOME,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """As root unless another token is given; "" for none."""
        said = {"X-Vault-Request": "true"} | (headers or {})
        if chosen := self.root if token is None else token:
            said["X-Vault-Token"] = chosen
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return await self.world.send(Call(method, f"/vault/v1/{path}", said, raw), source)

    async def ok(self, method: str, path: str, body: object = None, token: str | None = None) -> Any:
        """The JSON of an answer that must be a success; {} for one without content."""
        answer = await self.send(method, path, body, token)
        assert answer.status in (200, 204), (answer.status, answer.body)
        return answer.json if answer.body else {}

    async def refused(self, method: str, path: str, body: object = None, token: str | None = None) -> tuple[int, str]:
        """Status and first words of an answer that must be a refusal in Vault's shape."""
        answer = await self.send(method, path, body, token)
        assert answer.status >= 400, (answer.status, answer.body)
        assert list(answer.json) == ["errors"]
        return answer.status, " ".join(answer.json["errors"])

    async def sign(self, role: str = "user-role", token: str | None = None, **more: Any) -> Answer:
        return await self.send("PUT", f"ssh/sign/{role}", {"public_key": LINE, **more}, token)

    async def user(self, name: str = "testuser", policies: str = "ssh-access") -> str:
        """A new user's token."""
        await self.ok("PUT", f"auth/userpass/users/{name}", {"password": PASSWORD, "policies": policies})
        return await self.login(name)

    async def login(self, name: str = "testuser") -> str:
        answer = await self.ok("PUT", f"auth/userpass/login/{name}", {"password": PASSWORD}, "")
        return str(answer["auth"]["client_token"])

    async def again(self) -> None:
        """Another administrator's token: the one before has ended."""
        self.root = (await admin_token(self.world.outside, OPERATOR, "olga"))[1].reveal()


async def open_vault(world: World) -> Vault:
    """With a mount `ssh`, its CA key, the article's role, a user's way in and a policy for it."""
    world.change(vault=VaultSettings(plain_logins_unregistered_keys=True))
    world.signer.desk.follow(RULES)
    vault = Vault(world)
    await vault.again()
    await vault.ok("POST", "sys/mounts/ssh", {"type": "ssh"})
    await vault.ok("PUT", "ssh/config/ca", {"generate_signing_key": "true"})
    await vault.ok("PUT", "ssh/roles/user-role", ARTICLE)
    await vault.ok("POST", "sys/auth/userpass", {"type": "userpass"})
    await vault.ok("PUT", "sys/policies/acl/ssh-access", {"policy": SIGN_ONLY})
    return vault
