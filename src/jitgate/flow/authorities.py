"""The authorities of a realm: listed, so that the signer's keys count for nothing by themselves."""

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import Authority, CaKind
from jitgate.ca.serials import first_serial
from jitgate.core.errors import Unreachable
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx


def authority_for(tx: Tx, realm: str, kind: CaKind) -> Authority:
    """The key that signs in that realm now; `Unreachable` if none is listed."""
    for authority in tx.authorities.all():
        if authority.realm == realm and authority.kind is kind:
            return authority
    raise Unreachable(f"realm {realm} has no {kind} CA key", "jitgate init lists the first ones")


async def list_held_keys(outside: Outside, actor: Actor, *, epoch: int = 0) -> list[Authority]:
    """List every CA key that the signer holds and that is not listed yet; all that are listed then."""
    held = await outside.signer.keys()
    now = outside.clock()

    def job(tx: Tx) -> list[Authority]:
        known = {authority.key for authority in tx.authorities.all()}
        for key in held.authorities:
            if key.key in known:
                continue
            authority = Authority(outside.new_id(now), key.realm, key.kind, key.key)
            tx.authorities.add(authority, now, first_serial(epoch, outside.random))
            detail = (("ca", key.key.fingerprint), ("kind", key.kind.value))
            tx.log.append(Event(EventType.CA_KEY_ADDED, "done", now, key.realm, actor, detail=detail))
        return tx.authorities.all()

    return await outside.store.write(job)
