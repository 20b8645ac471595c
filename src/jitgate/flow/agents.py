"""Agents that are connected: who they are, and what they said, as rows and events.

An agent is let in by a signature of its host's key over the service's nonce and the TLS certificate that it saw, so
that nobody in between can use it elsewhere. Everybody else gets one answer and is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import BadInput, Denied, Error
from jitgate.flow.hosts import renew_host
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.hosts.agent_wire import CLOCK_MAX, NAMESPACE, PROBLEMS_MAX, AgentHello, Problem, hello_bytes
from jitgate.hosts.enrolment import HostState
from jitgate.hosts.model import Host
from jitgate.ssh import sshsig

AGENT = Actor("service")
CLOCK = "clock"
"""The code of the problem that we find ourselves: the host's clock is off."""


@dataclass(frozen=True, slots=True)
class AdmittedAgent:
    """`before`: what its host's agent said last."""

    host: Host
    before: HostState | None


async def admit_agent(
    outside: Outside, hello: AgentHello, nonce: str, certificates: Sequence[str], source: str
) -> AdmittedAgent:
    """The host whose agent this is. `certificates`: SHA-256 of those that we show, or did a moment ago.

    Raises `Denied` (`agent_refused`), `Unreachable`.
    """
    realm, name = hello.unverified_realm, hello.unverified_host

    def job(tx: Tx) -> tuple[str, Host | None, HostState | None]:
        host = tx.hosts.by_name(realm, name)
        return tx.value("installation") or "", host, tx.host_states.by_host(host.id) if host else None

    installation, host, before = await outside.store.read(job)
    try:
        known = _verify(hello, host, [hello_bytes(installation, realm, name, nonce, each) for each in certificates])
    except BadInput as error:
        await _refuse(outside, source, error)
        what = "this is not a host of ours, or not its key"
        raise Denied(what, "was it taken out? join again: jitgate agent join", code="agent_refused") from None
    return AdmittedAgent(known, before)


def _verify(hello: AgentHello, host: Host | None, wanted: Sequence[bytes]) -> Host:
    if host is None:
        raise BadInput("no such host", code="host_unknown")
    problem: BadInput | None = None
    for message in wanted:
        try:
            if sshsig.verify(hello.signature, NAMESPACE, message) == host.key:
                return host
        except BadInput as error:
            problem = error
    raise problem or BadInput("a signature by another key", code="signature")


async def _refuse(outside: Outside, source: str, error: Error) -> None:
    kind, now = EventType.HOST_REFUSED, outside.clock()
    if outside.floods.is_first(source, kind, now):
        event = Event(
            kind, "refused", now, DEFAULT_REALM, Actor("unknown"), source=source, detail=(("code", error.code),)
        )
        await outside.store.write(lambda tx: tx.log.append(event))


def with_clock(state: HostState, clock: Micros, now: Micros) -> HostState:
    """The state with the host's clock beside ours; a clock that is far off is a problem of its own."""
    off = clock - now
    others = tuple(each for each in state.problems if each.code != CLOCK)[: PROBLEMS_MAX - 1]
    if abs(off) <= CLOCK_MAX:
        return replace(state, clock_off=off, problems=others)
    words = f"the host's clock is {abs(off) // SECOND} s {'ahead' if off > 0 else 'behind'}"
    return replace(state, clock_off=off, problems=(Problem(CLOCK, words), *others))


def problem_event(host: Host, state: HostState, now: Micros) -> Event:
    codes = sorted({each.code for each in state.problems})
    detail: tuple[tuple[str, str | int], ...] = (("problems", " ".join(codes) or "none"),)
    if CLOCK in codes:
        detail += (("clock", next(each.detail for each in state.problems if each.code == CLOCK)),)
    return Event(EventType.HOST_PROBLEM, "done", now, host.realm, AGENT, target=f"host:{host.name}", detail=detail)


async def record_states(outside: Outside, states: Sequence[HostState], events: Sequence[Event]) -> None:
    """What agents said, of many at once."""

    def job(tx: Tx) -> None:
        tx.host_states.put(states)
        for event in events:
            tx.log.append(event)

    await outside.store.write(job)


async def record_gone(outside: Outside, host_ids: Sequence[str]) -> None:
    now, node = outside.clock(), outside.node
    await outside.store.write(lambda tx: tx.host_states.gone(host_ids, node, now))


async def record_seen(outside: Outside) -> None:
    now, node = outside.clock(), outside.node
    await outside.store.write(lambda tx: tx.host_states.seen(node, now))


async def forget_connected(outside: Outside) -> None:
    """At the start: nobody is connected yet, whatever a crash left in the rows."""
    node = outside.node
    await outside.store.write(lambda tx: tx.host_states.none_connected(node))


async def standing_hosts(outside: Outside) -> frozenset[str]:
    """Read, not recalled: a host that joins moves no epoch, and is not to be taken for one that was taken out."""
    return await outside.store.read(lambda tx: tx.hosts.ids())


async def renew_for_agent(outside: Outside, host: Host) -> str:
    """A new host certificate, as a line."""
    return (await renew_host(outside, AGENT, host.name, host.realm)).certificate.line()
