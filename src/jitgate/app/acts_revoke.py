"""What an operator can have revoked."""

from jitgate.api.schemas import progress_json, revocation_json
from jitgate.app.control import Json
from jitgate.audit.events import Actor
from jitgate.ca.revocation import Revocation, What
from jitgate.core.errors import NotFound
from jitgate.core.text import shown
from jitgate.flow.krl import progress_of
from jitgate.flow.outside import Outside
from jitgate.flow.revocations import Order, revoke_as_operator


async def _revoke(outside: Outside, actor: Actor, told: Json) -> Json:
    order = Order(What(told["what"]), told["subject"], told["ca"], told["realm"], told["reason"])
    return await _shown(outside, await revoke_as_operator(outside, actor, order))


async def _show(outside: Outside, _actor: Actor, told: Json) -> Json:
    made = await outside.store.read(lambda tx: tx.revocations.by_id(told["id"]))
    if made is None:
        raise NotFound(f"no revocation {shown(told['id'])}", "jitctl revoke ls --everybody")
    return await _shown(outside, made)


async def _shown(outside: Outside, made: Revocation) -> Json:
    progress = progress_json(await progress_of(outside, made), names=True)
    return {"revocation": revocation_json(made), "progress": progress}


ACTS = {"revoke": _revoke, "revoke show": _show}
