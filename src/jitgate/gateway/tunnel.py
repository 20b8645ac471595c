"""The tunnel: from a connection that asks for it to two sockets that are carried, and to the session's end.

Until a ticket was found sound and its session permitted, a connection is one of those that wait (listen.py): bounded in
number, and in time by `HANDSHAKE_S`. From then on it is one of `SESSIONS_MAX`.

What ends a session from here: its deadline, to the second; what was taken away (grant, person, key, host) or a kill,
within `LOOK_S` where we learn of it at once and `POLL_S` where we do not; `BLIND_S` without an answer of the database.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.errors import BadInput, Error, TooMany, Unreachable
from jitgate.core.sockets import set_options
from jitgate.core.tasks import Tasks
from jitgate.flow import sessions as acts
from jitgate.flow.outside import Outside
from jitgate.gateway.carrier import Carrier
from jitgate.gateway.dial import dial
from jitgate.gateway.dialback import Dialbacks, Reached
from jitgate.gateway.handshake import answer, no, read_question, shake_hands, take_off
from jitgate.gateway.relay import Relays
from jitgate.hosts.model import Host
from jitgate.sessions.session import Session, Why

HANDSHAKE_S = 10.0  # seconds for TLS and the question: two round trips of a slow link and more
ANSWER_S = 10.0  # seconds for the client to take our answer and end its TLS; it has nothing else to do
LAST_WORDS_S = 2.0  # seconds that a refusal waits to be read
SESSIONS_MAX = 8192  # tunnels at a time of one node: some 100 MB of system memory when idle
LOOK_S = 0.25
POLL_S = 10.0
BLIND_S = 300.0
BEAT_S = 60.0  # seconds between two signs of life while something is carried; a late one is tried again at each look
CLOSE_AGAIN_S = 1.0
STOP_S = 2.0  # seconds for the ends of all when the service stops

_LOG = logging.getLogger("jitgate.gateway")


class Meters(Protocol):
    """What is counted."""

    def opened(self) -> None: ...
    def ended(self) -> None: ...
    def refused(self, code: str) -> None: ...
    def moved(self, up: int, down: int) -> None: ...


@dataclass(slots=True)
class _Open:
    session: Session
    wanted: Why | None = None
    """Why we want it ended, once we do."""


@dataclass(slots=True)
class Tunnels:
    """All tunnels of this process. `name`: what this node is called where people read it. `dialbacks`: the way to hosts
    that their agents reach; None where no agent can connect."""

    outside: Outside
    context: ssl.SSLContext
    meters: Meters
    name: str
    dialbacks: Dialbacks | None = None
    _open: dict[str, _Open] = field(default_factory=dict)
    _opening: int = 0
    _tasks: Tasks = field(default_factory=lambda: Tasks(_LOG, "a tunnel"))
    _dialling: set[asyncio.Task[Any]] = field(default_factory=set)
    _carrier: Carrier = field(init=False)
    _relays: Relays = field(init=False)
    _stopping: bool = False
    _beat: float = 0.0
    _seen: float = 0.0
    _polled: float = 0.0
    _empty: asyncio.Event = field(default_factory=asyncio.Event)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._carrier = Carrier(self._ended, self.meters.moved)
        self._relays = Relays(self._ended, self.meters.moved)

    async def start(self) -> None:
        """Before the first connection: what this node left open when it crashed is closed."""
        await acts.node_seen(self.outside, self.name)
        self._beat = self._seen = time.monotonic()
        if left := await acts.close_left_open(self.outside):
            _LOG.warning("sessions were left open by a crash", extra={"count": left})

    async def take(self, connection: socket.socket, source: str) -> None:
        """A handler of `listen`. Returns when the connection is refused, or permitted and in a task of its own."""
        try:
            set_options(connection)
            async with asyncio.timeout(HANDSHAKE_S):
                tls = await shake_hands(connection, self.context)
        except (OSError, TimeoutError, BadInput) as problem:
            connection.close()
            await self._refuse_stranger(source, _words(problem))
            return
        try:
            passed = await self._ask(tls, source)
        except Error as error:
            self.meters.refused(error.code)
            await _say_no(tls, error)
        except BaseException:
            tls.close()
            raise
        else:
            self._opening += 1
            self._tasks.start(self._let_through(tls, passed))

    async def _ask(self, tls: ssl.SSLSocket, source: str) -> acts.Passed:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                question = await read_question(tls)
        except (OSError, TimeoutError, BadInput) as problem:
            error = _words(problem)
            await self._refuse_stranger(source, error, count=False)
            raise error from None
        if self._stopping or len(self._open) + self._opening >= SESSIONS_MAX:
            raise TooMany("the gateway has as many sessions as it takes", "try again in a while")
        return await acts.ask_session(self.outside, question.unverified_ticket, question.unverified_host, source)

    def health(self) -> str:
        """ "ok", or why nobody is let through."""
        if self._stopping:
            return "the gateway is stopping"
        return "ok" if len(self._open) + self._opening < SESSIONS_MAX else f"{SESSIONS_MAX} sessions are open"

    async def watch(self) -> None:
        """End what is to be ended, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause() if self._open else None):
                    await self._woken.wait()
            self._woken.clear()
            if self._open:
                self._end_due()
                await self._look()

    async def stop(self) -> None:
        """End everything: nobody would watch it. New ones are refused."""
        self._stopping = True
        for task in self._dialling:
            task.cancel()
        for each in list(self._open.values()):
            self._end(each, Why.STOPPED)
        self._empty.clear()
        if self._open:
            with contextlib.suppress(TimeoutError):  # each tells how much it carried
                async with asyncio.timeout(STOP_S):
                    await self._empty.wait()
        await self._carrier.stop()
        await self._relays.stop()
        await self._tasks.ended()

    async def _let_through(self, tls: ssl.SSLSocket, passed: acts.Passed) -> None:
        host: socket.socket | None = None
        session: Session | None = None
        try:
            where = passed.admission.host
            try:
                reached = await self._dial(where)
                host = reached.socket
                await self._carrier.ready()
            except Error as error:
                await acts.refuse_session(self.outside, passed.asked, error)
                raise
            session = await acts.open_session(self.outside, passed, reached.port, reached.address)
            self._open[session.id] = _Open(session)
            self.meters.opened()
            await self._hand_over(tls, host, session)
        except Error as error:
            self.meters.refused(error.code)
            if session is not None:
                self._ended(session.id, Why.CRASHED, 0, 0)
            await _say_no(tls, error)
        except (OSError, TimeoutError):  # the client went, or does not do its part
            if session is not None:
                self._ended(session.id, Why.CLIENT_GONE, 0, 0)
            tls.close()
        except BaseException:
            if session is not None:
                self._ended(session.id, Why.CRASHED, 0, 0)
            tls.close()
            raise
        finally:
            self._opening -= 1
            if host is not None and (session is None or session.id not in self._open):
                host.close()

    async def _dial(self, host: Host) -> Reached:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in one
        self._dialling.add(task)
        try:
            if host.reach == "dial":
                connection = await dial(host.name, host.address, host.port)
                address, port = connection.getsockname()[:2]
                return Reached(connection, address, port)
            if self.dialbacks is None:
                what = f"{host.name} is reached by its agent, and none can connect to this gateway"
                raise Unreachable(what, "ask who runs it: it needs an https url", code="host_unreachable")
            return await self.dialbacks.dial(host)
        finally:
            self._dialling.discard(task)

    async def _hand_over(self, tls: ssl.SSLSocket, host: socket.socket, session: Session) -> None:
        path = self.outside.gateway
        async with asyncio.timeout(ANSWER_S):
            await answer(tls, {"ok": True, "session": session.id, "ends_at": rfc3339(session.ends_at)})
            bare = None if path and path.keep_tls else await take_off(tls)
        if self._open[session.id].wanted:  # it was taken away meanwhile
            raise ConnectionAbortedError
        if bare is None:
            self._relays.carry(session.id, tls, host)
        else:
            await self._carry(session.id, bare, host)
        self._woken.set()  # its deadline may be the next

    async def _carry(self, session_id: str, client: socket.socket, host: socket.socket) -> None:
        """By the process, or the next one if it died just now. The client was told yes: else it is only closed."""
        try:
            try:
                self._carrier.carry(session_id, client, host)
            except Unreachable:
                await self._carrier.ready()
                self._carrier.carry(session_id, client, host)
        except Unreachable as problem:
            _LOG.error("a session could not be carried", extra={"problem": problem.what})
            client.close()
            self._ended(session_id, Why.CRASHED, 0, 0)

    async def _refuse_stranger(self, source: str, error: Error, *, count: bool = True) -> None:
        if count:
            self.meters.refused(error.code)
        with contextlib.suppress(Unreachable):  # the database is away, and this is one event of many
            await acts.refuse_stranger(self.outside, source, error)

    def _ended(self, session_id: str, why: Why | None, up: int, down: int) -> None:
        """Called once of each, by whoever carried it."""
        each = self._open.pop(session_id, None)
        if each is not None:
            self.meters.ended()
            if not self._open:
                self._empty.set()
            self._tasks.start(self._close(each.session, each.wanted or why or Why.KILLED, up, down))

    async def _close(self, session: Session, why: Why, up: int, down: int) -> None:
        """Written however long it takes: it has ended, whether the database can be told of it now or not."""
        at = self.outside.clock()
        while True:
            try:
                await acts.close_session(self.outside, session, why, up=up, down=down, at=at)
            except Unreachable:
                if self._stopping:  # the next start closes it
                    return
                await asyncio.sleep(CLOSE_AGAIN_S)
            else:
                return

    def _pause(self) -> float:
        """Seconds until the next deadline, at most `LOOK_S`."""
        soonest = min(each.session.ends_at for each in self._open.values())
        return max(0.0, min(LOOK_S, (soonest - self.outside.clock()) / SECOND))

    def _end_due(self) -> None:
        now = self.outside.clock()
        for each in list(self._open.values()):
            if now >= each.session.ends_at:
                self._end(each, Why.DEADLINE)

    def _end(self, each: _Open, why: Why) -> None:
        each.wanted = each.wanted or why
        self._carrier.end(each.session.id)
        self._relays.end(each.session.id)

    async def _look(self) -> None:
        now = time.monotonic()
        afresh = now - self._polled >= POLL_S
        try:
            for session_id, why in await acts.sessions_to_end(self.outside, afresh=afresh):
                if session_id in self._open:
                    self._end(self._open[session_id], why)
            if now - self._beat >= BEAT_S:
                await acts.node_seen(self.outside, self.name)
                await acts.close_left_open(self.outside, self._open)
                self._beat = now
        except Unreachable as problem:
            if now - self._seen < BLIND_S:
                return
            _LOG.error("the database cannot be asked; all sessions end", extra={"problem": problem.what})
            for each in list(self._open.values()):
                self._end(each, Why.BLIND)
        else:
            self._seen = now
            self._polled = now if afresh else self._polled


async def _say_no(tls: ssl.SSLSocket, error: Error) -> None:
    """Tell the client, and give it the time to read that: closing at once on unread bytes would take it back."""
    with contextlib.closing(tls), contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LAST_WORDS_S):
            await answer(tls, no(error))
            with contextlib.suppress(OSError):
                await take_off(tls)


def _words(problem: Exception) -> Error:
    """What a stranger did, for the log and, where they still listen, for them."""
    if isinstance(problem, Error):
        return problem
    what = "it went away in the middle of the handshake"
    if isinstance(problem, TimeoutError):
        what = "it stopped in the middle of the handshake"
    elif isinstance(problem, ssl.SSLError):
        what = f"TLS failed: {(problem.reason or 'no reason given').lower()}"
    return BadInput(what, "use jitctl", code="tunnel_handshake")
