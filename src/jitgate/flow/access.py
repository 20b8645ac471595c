"""What may I reach, and why: questions that change nothing and write no event."""

from dataclasses import dataclass

from jitgate.ca.names import principal
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.errors import NotFound
from jitgate.core.text import shown
from jitgate.flow.caller import Caller
from jitgate.flow.directory import know_groups
from jitgate.flow.grants import host_facts
from jitgate.flow.outside import Outside
from jitgate.flow.policy import policy_in_force
from jitgate.flow.ports import Tx
from jitgate.identity.model import VerifiedIdentity
from jitgate.policy.decide import decide
from jitgate.policy.explain import Explained
from jitgate.policy.explain import explain as explained
from jitgate.policy.model import Ask, Facts, Permit
from jitgate.policy.reach import LoginAnswer, reachable
from jitgate.sessions.model import Host


@dataclass(frozen=True, slots=True)
class Reachable:
    """A host on which some role speaks of the person, with the answer for each login."""

    host: Host
    logins: tuple[LoginAnswer, ...]


async def explain(
    outside: Outside, caller: Caller, host_name: str, login: str | None
) -> tuple[Explained, VerifiedIdentity]:
    """The decision that asking now would get, with every check of every role, and about whom it is."""
    caller = await know_groups(outside, caller)
    ask = Ask(host_name, login)

    def job(tx: Tx) -> Explained:
        host = tx.hosts.by_name(DEFAULT_REALM, host_name)
        if host is None:
            raise NotFound(f"no host {shown(host_name)}", "jitctl vm ls")
        facts = Facts(host_facts(host), outside.clock(), caller.source)
        decision = decide(caller.identity, ask, facts, policy_in_force(tx), complete=True)
        principals = (principal(decision.login, host_name),) if isinstance(decision, Permit) else ()
        return explained(decision, ask, principals)

    return await outside.store.read(job), caller.identity


async def reachable_hosts(outside: Outside, caller: Caller) -> list[Reachable]:
    """The hosts that the person has some role on, by name."""
    caller = await know_groups(outside, caller)

    def job(tx: Tx) -> list[Reachable]:
        hosts = {host.name: host for host in tx.hosts.all()}
        facts = [host_facts(host) for host in hosts.values()]
        answers = reachable(caller.identity, facts, policy_in_force(tx), now=outside.clock(), source=caller.source)
        return [Reachable(hosts[name], logins) for name, logins in answers]

    return await outside.store.read(job)
