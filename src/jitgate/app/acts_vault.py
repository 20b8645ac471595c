"""What an operator can have done for the Vault surface."""

from jitgate.app.control import Json
from jitgate.audit.events import Actor
from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.errors import Conflict
from jitgate.flow.outside import Outside
from jitgate.flow.vault.bring import bring_over
from jitgate.flow.vault.tokens import admin_token
from jitgate.policy.vault_role import seconds


async def vault_token(outside: Outside, actor: Actor, told: Json) -> Json:
    _check_on(outside)
    token, secret = await admin_token(outside, actor, told["name"], seconds(told["ttl"]) * SECOND)
    return {"token": secret.reveal(), "accessor": token.id, "expires_at": rfc3339(token.expires_at)}


async def vault_import(outside: Outside, actor: Actor, told: Json) -> Json:
    _check_on(outside)
    brought = await bring_over(
        outside, actor, told["as"], told["mount"], told["roles"], told["policies"], dry_run=told["dry_run"]
    )
    return {
        "brought": [
            {"kind": each.kind, "name": each.name, "taken": each.taken, "words": list(each.words)} for each in brought
        ]
    }


def _check_on(outside: Outside) -> None:
    if not outside.vault.on:
        hint = "[vault] plain_logins_unregistered_keys = true in jitgate.toml, [[mount]] in signer.toml: docs/vault.md"
        raise Conflict("the Vault surface is off", hint)


ACTS = {"vault token": vault_token, "vault import": vault_import}
