"""What holds up a step of a plan that replaces a CA key. The rules, so that no login fails meanwhile:

*trust* is done when each node's signer holds the new key, and everybody who will meet what it signs trusts it.
- User key: each host has it. A host with an agent has acknowledged a list of trust at least as new as the step. One
  without was given a trust file since the key was listed; that it was installed is the operator's word.
- Host and interception keys: it is people's machines that need them. They learn the keys after each certificate that
  they fetch, so everybody has it when no certificate for a person is valid that was issued before the key was listed:
  who has none that is valid fetches one before they can connect.
*use* is done when nothing by the old key is needed any more.
- User and interception keys: the last certificate by it has ended.
- Host key: each host shows a certificate by the new key, and logins that were under way when it began to are over. A
  host with an agent has acknowledged it. One without was given it since the new key signs; that it was installed is the
  operator's word.
*retire* is done when nobody trusts the old key: each host as in *trust*, for keys that hosts keep.

Hosts that an operator waived by name hold nothing up. Time is not waived: a stolen key has its own way.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jitgate.ca.realms import DEFAULT_REALM, Authority, CaKind
from jitgate.ca.rotation import Rotation, Step
from jitgate.core.clock import MINUTE, SECOND, Micros, rfc3339
from jitgate.flow.ports import Tx
from jitgate.hosts.enrolment import HostState
from jitgate.hosts.model import Host

LOGIN: Micros = 10 * SECOND  # from sshd's choice of its certificate until ssh has looked up who signed it
NODE_GONE: Micros = 5 * MINUTE  # a node that was not seen for so long signs nothing

_RENEW = "jitgate host renew {0}{1}, and on the host jitgate host trust {0}.trust; or --waive {0}"
_AGENT = "jitgate agent status, on the host; or --waive {0}"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """`host`: its name, or empty. `ready_at`: when it goes by itself; None if somebody has to do something."""

    words: str
    hint: str = ""
    host: str = ""
    ready_at: Micros | None = None


@dataclass(frozen=True, slots=True)
class HostKnows:
    """How a host is told what to trust: by its agent, or by a trust file made at `told_at` (None: never)."""

    host: str
    agent: bool
    told_at: Micros | None


def hosts_that_know(tx: Tx, realm: str) -> Iterator[HostKnows]:
    states = {state.host_id: state for state in tx.host_states.all(realm)}
    certified = tx.certificates.hosts_certified()
    for host in _hosts(tx, realm):
        state = states.get(host.id)
        yield HostKnows(host.name, state is not None, state.trust_at if state else certified.get(host.id))


def hosts_without(tx: Tx, authority: Authority) -> list[str]:
    """Names of hosts of its realm that were told nothing since the key was listed."""
    known = hosts_that_know(tx, authority.realm)
    return [each.host for each in known if each.told_at is None or each.told_at < authority.listed_at]


def obstacles(
    tx: Tx, plan: Rotation, old: Authority, new: Authority, now: Micros, *, node: str = ""
) -> Iterator[Obstacle]:
    """What the plan's step waits for; nothing once it is done. `node`: this one, whose signer is asked itself."""
    if plan.step is Step.TRUST:
        yield from _other_nodes(tx, new, now, node)
        yield from _not_told(tx, plan, since=new.listed_at)
        if plan.kind is not CaKind.USER:
            yield from _people(tx, plan, new, now)
    elif plan.step is Step.USE and plan.kind is CaKind.HOST:
        yield from _not_certified(tx, plan, new, now)
    elif plan.step is Step.USE:
        end = tx.certificates.last_end(old.id)
        if end is not None and end > now:
            words = f"the last {plan.kind} certificate by the old key ends at {rfc3339(end)}"
            yield Obstacle(words, "wait; or, for a stolen key, abort and start --emergency", ready_at=end)
    elif plan.step is Step.RETIRE:
        yield from _not_told(tx, plan, since=plan.step_at)


def _other_nodes(tx: Tx, new: Authority, now: Micros, node: str) -> Iterator[Obstacle]:
    for other, name, seen_at in tx.nodes.lacking(new.key.fingerprint, now - NODE_GONE):
        if other != node:
            words = f"the signer of the node {name} does not hold the new key"
            yield Obstacle(words, f"bring the key to {name}, or stop that node", ready_at=seen_at + NODE_GONE)


def _not_told(tx: Tx, plan: Rotation, *, since: Micros) -> Iterator[Obstacle]:
    states = {state.host_id: state for state in tx.host_states.all(plan.realm)}
    needed = (int(tx.value("epoch") or 0), plan.trust)
    certified = tx.certificates.hosts_certified()
    for host in _hosts(tx, plan.realm, plan.waived):
        state = states.get(host.id)
        if state is not None:
            if state.trust is None or state.trust < needed:
                yield _silent(host, state)
        elif plan.kind is CaKind.USER and certified.get(host.id, -1) < since:
            yield Obstacle(f"{host.name} has an older trust file", _renew(host), host.name)


def _renew(host: Host) -> str:
    return _RENEW.format(host.name, "" if host.realm == DEFAULT_REALM else f" --realm {host.realm}")


def _silent(host: Host, state: HostState) -> Obstacle:
    where = "is connected" if state.connected_at is not None else f"was last seen at {rfc3339(state.seen_at)}"
    return Obstacle(f"{host.name}'s agent has not acknowledged it, and {where}", _AGENT.format(host.name), host.name)


def _not_certified(tx: Tx, plan: Rotation, new: Authority, now: Micros) -> Iterator[Obstacle]:
    certified = tx.certificates.hosts_certified()
    states = {state.host_id: state for state in tx.host_states.all(plan.realm)}
    last, latest = 0, ""
    for host in _hosts(tx, plan.realm, plan.waived):
        state = states.get(host.id)
        if state is not None and state.host_ca == new.key.fingerprint:
            since = state.host_ca_at or 0
        elif state is not None or certified.get(host.id, -1) < plan.step_at:
            words = f"{host.name} shows a certificate by the old key"
            yield Obstacle(words, _AGENT.format(host.name) if state else _renew(host), host.name)
            continue
        else:
            since = certified[host.id]
        if since > last:
            last, latest = since, host.name
    if abs(now - last) < LOGIN:  # farther ahead it is of a clock that was wrong
        words = f"logins on {latest} may be under way that were shown the old certificate"
        yield Obstacle(words, f"wait; or --waive {latest}, if it never ends", latest, last + LOGIN)


def _people(tx: Tx, plan: Rotation, new: Authority, now: Micros) -> Iterator[Obstacle]:
    end = tx.certificates.last_end_of_older(plan.realm, CaKind.USER, new.listed_at)
    if end is not None and end > now:
        words = f"people whose certificates are older than the key's listing may not know it until {rfc3339(end)}"
        yield Obstacle(words, "wait: their machines learn it with the next certificate", ready_at=end)


def _hosts(tx: Tx, realm: str, waived: frozenset[str] = frozenset()) -> list[Host]:
    return [host for host in tx.hosts.all() if host.realm == realm and host.id not in waived]
