"""Hosts without an inbound port: the gateway asks a host's agent for a connection, and one comes back.

The agent is asked on its own connection, which its host key proved, with an id and a secret that were made for this one
session. Who comes to the port with both within `DIAL_S` is that agent; TLS is then taken off, and the bare socket takes
the place of a dialled one. What the agent says:
  {"v": 1, "id": ULID, "secret": 64 hexadecimal digits, "address": ..., "port": ...}
and is told {"ok": true}, or {"ok": false} with one reason for everything that is wrong. `address` and `port` are where
its connection to the local sshd comes from, as that sshd logs it.

Until then a connection is one of those that wait (listen.py), as a tunnel's client. Each id is good once, for one host,
and a wrong secret does not use it up: who guesses keeps nobody from their session.
"""

import asyncio
import contextlib
import hmac
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol

from jitgate.core.clock import SECOND, Clock, Micros
from jitgate.core.errors import BadInput, Error, NotFound, TooMany, Unreachable
from jitgate.core.ids import Random, is_id
from jitgate.core.sockets import set_options
from jitgate.gateway.handshake import answer, read_document, shake_hands, take_off, tls_13
from jitgate.hosts.agent_wire import DIALBACK_ALPN, Dial
from jitgate.hosts.bundle import is_digest
from jitgate.hosts.model import Host

DIAL_S: Final = 15.0  # seconds from asking to a bare socket: the agent's two connections, TLS, some lost packets
HANDSHAKE_S: Final = 10.0  # seconds for TLS and what is presented
WAITING_MAX: Final = 1024  # asked for and not there yet
PER_HOST_MAX: Final = 64  # of one host
PRESENTED_MAX: Final = 512  # bytes; what is said takes 200
_SECRET_BYTES: Final = 32
_PORTS: Final = range(1, 65536)


class Reached(NamedTuple):
    """A bare, non-blocking socket to a host's sshd; `address`, `port`: where it comes from, as that sshd sees it."""

    socket: socket.socket
    address: str
    port: int


class Asked(Protocol):
    """Who knows the agents that are connected (agents.py)."""

    async def dial(self, host_id: str, dial: Dial) -> None: ...


@dataclass(slots=True, eq=False)
class _Wanted:
    host_id: str
    secret: str = field(repr=False)
    came: "asyncio.Future[Reached]"


class _Presented(NamedTuple):
    id: str
    secret: str
    address: str
    port: int


def dialback_context() -> ssl.SSLContext:
    """A certificate is still to be loaded."""
    return tls_13(DIALBACK_ALPN)


@dataclass(slots=True)
class Dialbacks:
    """All connections back that this node waits for."""

    agents: Asked
    context: ssl.SSLContext
    clock: Clock
    random: Random
    new_id: Callable[[Micros], str]
    _wanted: dict[str, _Wanted] = field(default_factory=dict)

    async def dial(self, host: Host, *, seconds: float = DIAL_S) -> Reached:
        """A connection to the host's own sshd. `Unreachable` (`host_unreachable`), `TooMany`."""
        if len(self._wanted) >= WAITING_MAX or self._asked_of(host.id) >= PER_HOST_MAX:
            raise TooMany(f"too many wait for {host.name}", "try again in a while")
        now = self.clock()
        wanted = _Wanted(host.id, self.random(_SECRET_BYTES).hex(), asyncio.get_running_loop().create_future())
        dial_id = self.new_id(now)
        self._wanted[dial_id] = wanted
        reached: Reached | None = None
        try:
            async with asyncio.timeout(seconds):
                await self.agents.dial(host.id, Dial(dial_id, wanted.secret, now + int(seconds * SECOND)))
                reached = await wanted.came
        except NotFound:
            what = f"{host.name} is reached by its agent, and that is not connected to this gateway"
            raise Unreachable(what, "on the host: jitgate agent status", code="host_unreachable") from None
        except TimeoutError:
            what = f"the agent of {host.name} did not dial back within {seconds:.0f} s"
            raise Unreachable(what, "on the host: jitgate agent status", code="host_unreachable") from None
        finally:
            self._wanted.pop(dial_id, None)
            if reached is None and not wanted.came.cancel() and not wanted.came.cancelled():
                wanted.came.result().socket.close()  # it came in the moment in which nobody waited any more
        return reached

    async def take(self, connection: socket.socket, source: str) -> None:  # noqa: ARG002  # a handler of `listen`
        """A handler of `listen`. Returns when it was handed to who waits for it, or was refused."""
        try:
            set_options(connection)
            async with asyncio.timeout(HANDSHAKE_S):
                tls = await shake_hands(connection, self.context, DIALBACK_ALPN)
        except (OSError, TimeoutError, BadInput):
            connection.close()
            return
        bare: socket.socket = tls
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                said = _presented(await read_document(tls, PRESENTED_MAX))
                wanted = self._claim(said)
                if wanted is None:
                    await answer(tls, {"ok": False, "code": "dial_refused", "detail": "nobody waits for this"})
                else:
                    await answer(tls, {"ok": True})
                bare = await take_off(tls)
        except (OSError, TimeoutError, Error):
            bare.close()
            return
        except BaseException:
            bare.close()
            raise
        if wanted is None or wanted.came.done():
            bare.close()
        else:
            wanted.came.set_result(Reached(bare, said.address, said.port))

    def _claim(self, said: _Presented) -> _Wanted | None:
        """Who waits for it; from then on nobody does."""
        wanted = self._wanted.get(said.id)
        if wanted is None or not hmac.compare_digest(wanted.secret, said.secret):
            return None
        return self._wanted.pop(said.id)

    def _asked_of(self, host_id: str) -> int:
        return sum(each.host_id == host_id for each in self._wanted.values())


def _presented(document: dict[str, object]) -> _Presented:
    found = document.get("id"), document.get("secret"), document.get("address"), document.get("port")
    match found:
        case (str(dial_id), str(secret), str(address), int(port)):
            with contextlib.suppress(ValueError):
                if is_id(dial_id) and is_digest(secret) and port in _PORTS and document.get("v") == 1:
                    return _Presented(dial_id, secret, str(ip_address(address)), port)
    raise BadInput("what an agent presents is of another form", code="dial_protocol")
