"""What an operator can have done with CA keys."""

from collections.abc import Mapping

from jitgate.app.control import Json
from jitgate.audit.events import Actor
from jitgate.ca.realms import Authority, CaKind
from jitgate.core.clock import rfc3339
from jitgate.flow import authorities
from jitgate.flow.authorities import Known
from jitgate.flow.outside import Outside
from jitgate.ssh.pubkey import parse_public_key_line


async def ca_add(outside: Outside, actor: Actor, told: Json) -> Json:
    wanted = parse_public_key_line(told["line"])[0] if told["line"] else told["key"]
    kind = CaKind(told["kind"]) if told["kind"] else None
    return _authority(await authorities.add_authority(outside, actor, wanted, kind, told["realm"]))


async def ca_ls(outside: Outside, _actor: Actor, _told: Json) -> Json:
    found, held = await authorities.known_authorities(outside)
    refused = [{"file": each.file, "why": each.why, "hint": each.hint} for each in held.refused]
    return {"keys": [_known(each) for each in found], "refused": refused}


async def ca_use(outside: Outside, actor: Actor, told: Json) -> Json:
    used, before = await authorities.use_authority(outside, actor, told["key"], anyway=told["anyway"])
    return _authority(used) | {"previous": before.key.fingerprint if before and before != used else ""}


async def ca_retire(outside: Outside, actor: Actor, told: Json) -> Json:
    return _authority(await authorities.retire_authority(outside, actor, told["key"]))


async def ca_moved(outside: Outside, actor: Actor, told: Json) -> Json:
    held = await authorities.record_move(outside, actor, told["key"], told["before"])
    return {"file": held.file}


ACTS = {"ca add": ca_add, "ca ls": ca_ls, "ca use": ca_use, "ca retire": ca_retire, "ca moved": ca_moved}


def _authority(authority: Authority) -> Json:
    return {
        "fingerprint": authority.key.fingerprint,
        "realm": authority.realm,
        "kind": authority.kind.value,
        "key": authority.key.line(),
    }


def _known(each: Known) -> Mapping[str, object]:
    held = each.held
    return {
        "fingerprint": each.key.fingerprint,
        "realm": each.realm,
        "kind": each.kind.value,
        "phase": each.authority.phase.value if each.authority else "found",
        "file": held.file if held else "",
        "held": "no" if held is None else "until a restart" if held.kept else "yes",
        "listed_at": rfc3339(each.authority.listed_at) if each.authority else None,
        "key": each.key.line(),
    }
