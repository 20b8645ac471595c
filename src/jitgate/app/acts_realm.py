"""What an operator can have done with realms."""

from jitgate.app.control import Json
from jitgate.audit.events import Actor
from jitgate.ca.names import host_pattern
from jitgate.core.clock import rfc3339
from jitgate.flow import realms
from jitgate.flow.outside import Outside
from jitgate.flow.realms import Realm


async def realm_add(outside: Outside, actor: Actor, told: Json) -> Json:
    return {"realm": _realm(await realms.add_realm(outside, actor, told["name"]))}


async def realm_ls(outside: Outside, _actor: Actor, _told: Json) -> Json:
    return {"realms": [_realm(each) for each in await realms.list_realms(outside)]}


async def realm_show(outside: Outside, _actor: Actor, told: Json) -> Json:
    return {"realm": _realm(await realms.show_realm(outside, told["name"]))}


async def user_leave(outside: Outside, actor: Actor, told: Json) -> Json:
    person = await realms.leave_realm(outside, actor, told["name"], told["realm"], told["reason"])
    return {"name": person.name, "left": sorted(person.left)}


async def user_return(outside: Outside, actor: Actor, told: Json) -> Json:
    person = await realms.return_to_realm(outside, actor, told["name"], told["realm"], told["reason"])
    return {"name": person.name, "left": sorted(person.left)}


ACTS = {
    "realm add": realm_add,
    "realm ls": realm_ls,
    "realm show": realm_show,
    "user leave": user_leave,
    "user return": user_return,
}


def _realm(realm: Realm) -> Json:
    return {
        "name": realm.name,
        "added_at": rfc3339(realm.added_at),
        "host_pattern": host_pattern(realm.name),
        "hosts": realm.hosts,
        "left": list(realm.left),
        "keys": [
            {"kind": each.kind.value, "phase": each.phase.value, "fingerprint": each.key.fingerprint}
            for each in realm.authorities
        ],
    }
