"""What may I reach, and why: questions that change nothing and write no event."""

from dataclasses import dataclass
from itertools import groupby

from jitgate.ca.names import principal
from jitgate.flow.caller import Caller
from jitgate.flow.directory import know_groups
from jitgate.flow.grants import find_host
from jitgate.flow.outside import Outside
from jitgate.flow.policy import policy_in_force
from jitgate.flow.ports import Tx
from jitgate.hosts.model import Host
from jitgate.identity.model import VerifiedIdentity
from jitgate.policy.decide import decide
from jitgate.policy.explain import Explained
from jitgate.policy.explain import explain as explained
from jitgate.policy.model import Ask, Facts, Permit
from jitgate.policy.reach import LoginAnswer, reachable


@dataclass(frozen=True, slots=True)
class Reachable:
    """A host on which some role speaks of the person, with the answer for each login."""

    host: Host
    logins: tuple[LoginAnswer, ...]


async def explain(
    outside: Outside, caller: Caller, host_name: str, login: str | None, realm: str = ""
) -> tuple[Explained, VerifiedIdentity]:
    """The decision that asking now would get, with every check of every role, and about whom it is."""
    caller = await know_groups(outside, caller)
    ask = Ask(host_name, login)

    def job(tx: Tx) -> Explained:
        host = find_host(tx, host_name, realm)
        facts = Facts(host.facts, outside.clock(), caller.source)
        decision = decide(caller.identity, ask, facts, policy_in_force(tx), complete=True)
        principals = (principal(decision.login, host_name),) if isinstance(decision, Permit) else ()
        return explained(decision, ask, principals)

    return await outside.store.read(job), caller.identity


async def reachable_hosts(outside: Outside, caller: Caller, name: str = "") -> list[Reachable]:
    """The hosts that the person has some role on, by realm and name; of that `name` only, if one is given."""
    caller = await know_groups(outside, caller)

    def job(tx: Tx) -> list[Reachable]:
        policy, now = policy_in_force(tx), outside.clock()
        found = []
        for _, of_realm in groupby(tx.hosts.named(name) if name else tx.hosts.all(), key=lambda host: host.realm):
            hosts = {host.name: host for host in of_realm}
            facts = [host.facts for host in hosts.values()]
            answers = reachable(caller.identity, facts, policy, now=now, source=caller.source)
            found += [Reachable(hosts[name], logins) for name, logins in answers]
        return found

    return await outside.store.read(job)
