"""What an operator can have done for the Vault surface."""

from jitgate.app.control import Json
from jitgate.audit.events import Actor
from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.errors import Conflict
from jitgate.flow.outside import Outside
from jitgate.flow.vault.tokens import admin_token
from jitgate.policy.vault_role import seconds


async def vault_token(outside: Outside, actor: Actor, told: Json) -> Json:
    if not outside.vault.on:
        hint = "[vault] plain_logins_unregistered_keys = true in jitgate.toml, [[mount]] in signer.toml: docs/vault.md"
        raise Conflict("the Vault surface is off", hint)
    token, secret = await admin_token(outside, actor, told["name"], seconds(told["ttl"]) * SECOND)
    return {"token": secret.reveal(), "accessor": token.id, "expires_at": rfc3339(token.expires_at)}


ACTS = {"vault token": vault_token}
