"""What an operator can have done with backup keys. The private half never comes here."""

from jitgate.app.control import Json
from jitgate.audit.events import Actor
from jitgate.flow import backup
from jitgate.flow.outside import Outside


async def facts(outside: Outside, _actor: Actor, told: Json) -> Json:
    found = await backup.backup_facts(outside, told["key"])
    return {
        "realm": found.authority.realm,
        "kind": found.authority.kind.value,
        "trusted": [key.line() for key in found.trusted],
        "without": list(found.without),
        "hosts": list(found.hosts),
    }


async def drilled(outside: Outside, actor: Actor, told: Json) -> Json:
    await backup.record_drill(outside, actor, told["key"])
    return {}


ACTS = {"ca backup facts": facts, "ca backup drilled": drilled}
