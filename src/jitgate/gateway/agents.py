"""All agents that are connected to this service: each is told what is new for its host, and what it says is kept.

Until an agent has proved its host's key it is one of those that wait (listen.py): bounded in number, and in time by
`HELLO_S`. From then on it is one of `AGENTS_MAX`, with one connection for each host: a newer one ends the older.

What is new is looked for every `LOOK_S`, which costs nothing while nobody lost anything, and in the database itself
every `POLL_S`. An agent that does not take what it is sent, or sends more than it may, is hung up on; it comes back.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from jitgate.audit.events import Event
from jitgate.ca.envelope import Envelope
from jitgate.ca.trust import TrustVersion
from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput, Denied, Error, NotFound, TooMany, Unreachable
from jitgate.core.tasks import Tasks
from jitgate.flow import agents as acts
from jitgate.flow import bundles
from jitgate.flow.bundles import Content, Marks, Told, content_for
from jitgate.flow.outside import Outside
from jitgate.gateway.agent_link import Link, accept, served_certificate
from jitgate.hosts import agent_wire as wire
from jitgate.hosts.agent_wire import Ack, AgentHello, Dial, FromService, Have, Ping, Renew, Report
from jitgate.hosts.enrolment import HostState
from jitgate.hosts.model import Host
from jitgate.ssh.wire import to_base64

HELLO_S = 10.0  # for TLS and the proof: some round trips of a slow link
AGENTS_MAX = 8192  # of one node
LOOK_S = 0.25
LOOK_MAX_S = 1.0  # after a look that took long
POLL_S = 10.0
FLUSH_S = 0.05  # what agents say in such a time is written at once
SEEN_S = 60.0
AGAIN_S = 1.0  # after the database or the signer did not answer
TOGETHER = 64  # bundles that are signed at a time: the first leave while the others are made
WAITING_MAX = 8  # frames that one agent has not taken yet
WRITE_S = 60.0
RENEW_S = 60.0
STOP_S = 2.0

_LOG = logging.getLogger("jitgate.agents")
OnReport = Callable[[Host, Report], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Agent:
    """`codes`: of the problems that the log knows. `sent`: what its last bundle said; `counter`: under which state."""

    host: Host
    link: Link
    state: HostState
    have: Have
    codes: frozenset[str]
    sent: Content | None = None
    counter: int = -1
    sent_at: float = 0.0
    trust: TrustVersion | None = None
    allowed: float = wire.MESSAGES
    spoke_at: float = 0.0
    renewed_at: float = -RENEW_S


@dataclass(slots=True)
class Agents:
    """`on_report`: takes what agents report of logins."""

    outside: Outside
    context: ssl.SSLContext
    on_report: OnReport
    _open: dict[str, _Agent] = field(default_factory=dict)
    _tasks: Tasks = field(default_factory=lambda: Tasks(_LOG, "an agent's connection"))
    _shown: tuple[str, ...] = ()
    _marks: Marks | None = None
    _told: Told | None = None
    _krls: dict[str, bytes] = field(default_factory=dict)
    _trust: dict[str, tuple[TrustVersion, Envelope]] = field(default_factory=dict)
    _states: dict[str, HostState] = field(default_factory=dict)
    _events: list[Event] = field(default_factory=list)
    _gone: set[str] = field(default_factory=set)
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    _polled: float = 0.0
    _seen: float = 0.0
    _stopping: bool = False
    _again: bool = False

    async def start(self) -> None:
        self.learn_certificate()
        await acts.forget_connected(self.outside)
        self._seen = time.monotonic()

    def learn_certificate(self) -> None:
        """After one was loaded into the context. Who saw the one before a moment ago is let in too."""
        now = served_certificate(self.context)
        if now not in self._shown[:1]:
            self._shown = (now, *self._shown[:1])

    @property
    def count(self) -> int:
        return len(self._open)

    async def dial(self, host_id: str, dial: Dial) -> None:
        """Ask a host's agent to dial back. `NotFound` when it is not connected here."""
        agent = self._open.get(host_id)
        if agent is None:
            raise NotFound("the host's agent is not connected", "is it running? on the host: jitgate agent status")
        await self._send(agent, dial)

    async def take(self, connection: socket.socket, source: str) -> None:
        """A handler of `listen`. Returns when it is refused, or in a task of its own."""
        try:
            async with asyncio.timeout(HELLO_S):
                link = await accept(connection, self.context)
        except (OSError, TimeoutError, BadInput):
            connection.close()
            return
        try:
            async with asyncio.timeout(HELLO_S):
                agent = await self._let_in(link, source)
        except Error as error:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await link.write([wire.put_frame(wire.Refused(error.code, error.what, error.hint))])
            link.close()
        except (OSError, TimeoutError):
            link.close()
        except BaseException:
            link.close()
            raise
        else:
            self._tasks.start(self._serve(agent))

    async def watch(self) -> None:
        """Tell agents what is new, until cancelled."""
        flushing = asyncio.create_task(self._flush())
        try:
            pause = LOOK_S
            while True:
                await asyncio.sleep(pause)
                began = time.monotonic()
                try:
                    if self._open:
                        await self._look()
                except Exception as problem:  # noqa: BLE001  # whatever it was, the next look may do
                    _LOG.error("agents cannot be told what is new", extra={"problem": str(problem)})
                    self._again = True
                    await asyncio.sleep(AGAIN_S)
                # where much is taken away all the time, telling it leaves time for others
                pause = min(max(LOOK_S, 2 * (time.monotonic() - began)), LOOK_MAX_S)
        finally:
            flushing.cancel()

    async def stop(self) -> None:
        """Hang up on all; they dial another gateway, or come back. New ones are refused."""
        self._stopping = True
        self._tasks.cancel()
        await self._tasks.ended(STOP_S)
        with contextlib.suppress(Error):
            await self._write_down()

    # ---- letting in ----

    async def _let_in(self, link: Link, source: str) -> _Agent:
        nonce = self.outside.random(32).hex()
        await link.write([wire.put_frame(wire.Greeting(nonce))])
        hello = wire.take_from_agent(await link.read(wire.HELLO_MAX))
        if not isinstance(hello, AgentHello):
            raise BadInput("an agent begins with its hello", code="agent_protocol")
        if self._stopping or len(self._open) >= AGENTS_MAX:
            raise TooMany("this gateway takes no more agents", "it tries again, and at its other gateway")
        admitted = await acts.admit_agent(self.outside, hello, nonce, self._shown, source)
        now, host, before = self.outside.clock(), admitted.host, admitted.before
        state = before or HostState(host.id, host.realm, "", None, now)
        state = replace(state, node=self.outside.node, connected_at=now, seen_at=now, agent=hello.agent)
        have = hello.have
        state = replace(state, bundle=have.bundle, trust=have.trust, krl=have.krl)
        state = replace(state, bundle_at=state.bundle_at if have.bundle else None, trust_at=state.trust_at or now)
        codes = frozenset(each.code for each in before.problems) if before else frozenset()
        state = _with_host_ca(state, have, now)
        agent = _Agent(host, link, state, have, codes, spoke_at=time.monotonic())
        self._say(agent, acts.with_clock(state, hello.clock, now))
        await link.write([wire.put_frame(wire.Welcome(now))])
        if (older := self._open.get(host.id)) is not None:
            older.link.abort()
        self._open[host.id] = agent
        return agent

    async def _serve(self, agent: _Agent) -> None:
        try:
            self._tasks.start(self._begin(agent))
            while True:
                async with asyncio.timeout(wire.SILENCE_S):
                    unverified = await agent.link.read(wire.FROM_AGENT_MAX)
                self._count(agent)
                await self._hear(agent, wire.take_from_agent(unverified))
        except (OSError, TimeoutError):
            pass
        except Error as error:
            _LOG.warning("an agent was hung up on", extra={"host": agent.host.name, "problem": error.what})
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._send(agent, wire.Refused(error.code, error.what, error.hint))
        finally:
            agent.link.close()
            if self._open.get(agent.host.id) is agent:
                del self._open[agent.host.id]
                self._gone.add(agent.host.id)
                self._dirty.set()

    def _count(self, agent: _Agent) -> None:
        now = time.monotonic()
        agent.allowed = min(wire.MESSAGES, agent.allowed + (now - agent.spoke_at) * wire.MESSAGES / 60)
        agent.spoke_at = now
        if agent.allowed < 1:
            raise TooMany("too many messages of one agent", "it may come back in a minute")
        agent.allowed -= 1

    async def _hear(self, agent: _Agent, message: wire.FromAgent) -> None:
        now = self.outside.clock()
        match message:
            case Ping(clock):
                state = acts.with_clock(agent.state, clock, now)
                if abs(state.clock_off - agent.state.clock_off) > SECOND or state.problems != agent.state.problems:
                    self._say(agent, state)
                await self._send(agent, wire.Pong(now))
            case Ack():
                self._acknowledged(agent, message, now)
            case Renew():
                if time.monotonic() - agent.renewed_at >= RENEW_S:
                    agent.renewed_at = time.monotonic()
                    self._tasks.start(self._renew(agent))
            case Report():
                await self.on_report(agent.host, message)
            case AgentHello():
                raise BadInput("a second hello", code="agent_protocol")

    def _acknowledged(self, agent: _Agent, ack: Ack, now: int) -> None:
        agent.have, state = ack.have, agent.state
        off = tuple(each for each in state.problems if each.code == acts.CLOCK)
        theirs = tuple(each for each in ack.problems if each.code != acts.CLOCK)
        if ack.have.bundle != state.bundle:
            state = replace(state, bundle=ack.have.bundle, bundle_at=now)
        if ack.have.trust != state.trust:
            state = replace(state, trust=ack.have.trust, trust_at=now)
        state = _with_host_ca(state, ack.have, now)
        state = replace(state, krl=ack.have.krl, seen_at=now, problems=(*off, *theirs)[: wire.PROBLEMS_MAX])
        self._say(agent, state)
        told = self._told
        if told and ack.have.krl != told.krls.get(agent.host.realm, (b"", ""))[1] and ack.have.bundle is None:
            agent.sent, self._again = None, True  # it has lost what it had: it is told anew at the next look

    def _say(self, agent: _Agent, state: HostState) -> None:
        """To be written down soon, with an event when the problems are others than the log knows."""
        agent.state = state
        codes = frozenset(each.code for each in state.problems)
        if codes != agent.codes:
            agent.codes = codes
            self._events.append(acts.problem_event(agent.host, state, self.outside.clock()))
        self._states[agent.host.id] = state
        self._gone.discard(agent.host.id)
        self._dirty.set()

    async def _renew(self, agent: _Agent) -> None:
        try:
            line = await acts.renew_for_agent(self.outside, agent.host)
            await self._send(agent, wire.CertificateSent(line))
        except Error as error:
            _LOG.warning("no new host certificate", extra={"host": agent.host.name, "problem": error.what})
        except (OSError, TimeoutError):
            agent.link.abort()

    # ---- telling ----

    async def _begin(self, agent: _Agent) -> None:
        """What it does not have yet."""
        try:
            async with self._telling:
                if self._told is None or agent.host.realm not in self._told.krls:
                    await self._learn()
                    self._again = True  # what was learnt with it is news to others, too
            await self._tell([agent])
        except Error as problem:
            _LOG.error("an agent cannot be told what is new", extra={"problem": problem.what})
            agent.link.abort()

    async def _look(self) -> None:
        now = time.monotonic()
        afresh = now - self._polled >= POLL_S
        marks = await bundles.read_marks(self.outside, afresh=afresh)
        if afresh:
            self._polled = now
        if marks != self._marks:
            standing = await acts.standing_hosts(self.outside)
            for agent in [each for each in self._open.values() if each.host.id not in standing]:
                self._tasks.start(self._hang_up(agent, Denied("this host was taken out", "", code="host_removed")))
            async with self._telling:
                await self._learn()
            self._again = True
        sweep = now - self._seen >= SEEN_S
        if self._again or sweep:
            self._again = False
            await self._tell(self._open.values())
        if sweep:
            self._seen = now
            await acts.record_seen(self.outside)

    async def _learn(self) -> None:
        realms = sorted({each.host.realm for each in self._open.values()})
        told = await bundles.read_told(self.outside, realms, self._told)
        wanted = (told.marks.epoch, told.marks.trust)
        for realm in realms:
            if realm not in self._trust or self._trust[realm][0] < wanted:
                self._trust[realm] = await bundles.trust_list(self.outside, realm)
        self._krls = {realm: to_base64(krl).encode() for realm, (krl, _) in told.krls.items()}
        self._told, self._marks = told, told.marks

    async def _tell(self, agents: Iterable[_Agent]) -> None:
        told, now = self._told, time.monotonic()
        if told is None:
            return
        due = [each for each in agents if each.host.realm in told.krls and self._is_due(each, told, now)]
        for at in range(0, len(due), TOGETHER):
            part = due[at : at + TOGETHER]
            for agent in part:  # before anything is awaited: nobody is told the same twice
                agent.sent, agent.counter, agent.sent_at = content_for(told, agent.host), told.marks.state, now
            made = [bundles.bundle_for(told, agent.host, self.outside.clock()) for agent in part]
            try:
                envelopes = await bundles.sign_bundles(self.outside, made)
            except Error:
                for agent in part:
                    agent.sent = None
                self._again = True
                raise
            for agent, bundle, envelope in zip(part, made, envelopes, strict=True):
                krl = None if agent.have.krl == bundle.krl else self._krls[agent.host.realm]
                frames = [*self._trust_frame(agent), *wire.bundle_frame(envelope, krl)]
                self._tasks.start(self._deliver(agent, frames))

    def _is_due(self, agent: _Agent, told: Told, now: float) -> bool:
        if agent.sent is None or agent.counter < told.marks.state:
            return True
        if agent.trust != self._trust[agent.host.realm][0] or now - agent.sent_at > bundles.REFRESH / SECOND:
            return True
        return agent.sent != content_for(told, agent.host)

    def _trust_frame(self, agent: _Agent) -> list[bytes]:
        version, envelope = self._trust[agent.host.realm]
        known = agent.trust or agent.have.trust
        agent.trust = version
        return [] if known == version else [wire.put_frame(wire.TrustSent(envelope))]

    async def _deliver(self, agent: _Agent, frames: list[bytes]) -> None:
        if agent.link.waiting >= WAITING_MAX:
            agent.link.abort()
            return
        try:
            async with asyncio.timeout(WRITE_S):
                await agent.link.write(frames)
        except (OSError, TimeoutError):
            agent.link.abort()

    async def _send(self, agent: _Agent, message: FromService) -> None:
        await self._deliver(agent, [wire.put_frame(message)])

    async def _hang_up(self, agent: _Agent, error: Error) -> None:
        await self._send(agent, wire.Refused(error.code, error.what, error.hint))
        agent.link.abort()

    # ---- writing down ----

    async def _flush(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(FLUSH_S)
            try:
                await self._write_down()
            except Unreachable:
                await asyncio.sleep(AGAIN_S)
            except Exception as problem:  # noqa: BLE001  # whatever it was, it is one agent's and no other's
                _LOG.error("what agents said cannot be written down", extra={"problem": str(problem)})
                await self._write_one_by_one()

    async def _write_down(self) -> None:
        self._dirty.clear()
        states, self._states = self._states, {}
        events, self._events = self._events, []
        gone, self._gone = self._gone, set()
        try:
            if states or events:
                await acts.record_states(self.outside, list(states.values()), events)
            if gone:
                await acts.record_gone(self.outside, sorted(gone))
        except BaseException:
            self._states, self._events = states | self._states, events + self._events
            self._gone |= gone - self._states.keys()
            self._dirty.set()
            raise

    async def _write_one_by_one(self) -> None:
        """What cannot be written even so is not tried for ever."""
        states, self._states, self._events = self._states, {}, []
        for state in states.values():
            with contextlib.suppress(Exception):
                await acts.record_states(self.outside, [state], [])


def _with_host_ca(state: HostState, have: wire.Have, now: int) -> HostState:
    """With who signed the certificate that its sshd shows, and since when it says so."""
    return state if have.host_ca == state.host_ca else replace(state, host_ca=have.host_ca, host_ca_at=now)
