"""What an operator can have done with plans that replace CA keys."""

from jitgate.app.control import Json
from jitgate.audit.events import Actor
from jitgate.ca.realms import Authority, CaKind
from jitgate.core.clock import rfc3339
from jitgate.flow import rotation
from jitgate.flow.outside import Outside
from jitgate.flow.rotation import Progress


async def plan(outside: Outside, _actor: Actor, told: Json) -> Json:
    seen = await rotation.outlook(outside, told["realm"], CaKind(told["kind"]))
    return {
        "active": _key(seen.active),
        "listed": [_key(each) for each in seen.listed],
        "hosts": [
            {"name": each.host, "agent": each.agent, "told_at": rfc3339(each.told_at) if each.told_at else None}
            for each in seen.hosts
        ],
        "running": _progress(seen.running) if seen.running else None,
    }


async def start(outside: Outside, actor: Actor, told: Json) -> Json:
    realm, kind, emergency = told["realm"], CaKind(told["kind"]), told["emergency"]
    begun = await rotation.start_rotation(
        outside, actor, realm, kind, told["key"], emergency=emergency, reason=told["reason"]
    )
    return _progress(begun)


async def status(outside: Outside, _actor: Actor, _told: Json) -> Json:
    return {"plans": [_progress(each) for each in await rotation.rotations(outside)]}


async def waive(outside: Outside, actor: Actor, told: Json) -> Json:
    realm, kind = told["realm"], CaKind(told["kind"])
    return _progress(await rotation.waive_hosts(outside, actor, realm, kind, told["hosts"], told["reason"]))


async def advance(outside: Outside, actor: Actor, told: Json) -> Json:
    done = await rotation.advance_rotation(outside, actor, told["realm"], CaKind(told["kind"]), told["reason"])
    return _progress(done)


async def abort(outside: Outside, actor: Actor, told: Json) -> Json:
    done = await rotation.abort_rotation(outside, actor, told["realm"], CaKind(told["kind"]), told["reason"])
    return _progress(done)


ACTS = {
    "ca rotate plan": plan,
    "ca rotate start": start,
    "ca rotate status": status,
    "ca rotate waive": waive,
    "ca rotate advance": advance,
    "ca rotate abort": abort,
}


def _key(authority: Authority) -> Json:
    return {"fingerprint": authority.key.fingerprint, "phase": authority.phase.value}


def _progress(seen: Progress) -> Json:
    plan = seen.rotation
    return {
        "id": plan.id,
        "realm": plan.realm,
        "kind": plan.kind.value,
        "step": plan.step.value,
        "next": plan.next.value if plan.next else None,
        "emergency": plan.emergency,
        "started_at": rfc3339(plan.started_at),
        "step_at": rfc3339(plan.step_at),
        "old": _key(seen.old),
        "new": _key(seen.new),
        "waived": len(plan.waived),
        "obstacles": [
            {
                "what": each.words,
                "hint": each.hint,
                "host": each.host,
                "ready_at": rfc3339(each.ready_at) if each.ready_at else None,
            }
            for each in seen.obstacles
        ],
    }
