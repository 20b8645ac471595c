"""One port for everything: accept, look at the first bytes without taking them, hand the socket on.

A client that says nothing costs one socket and one timer until `FIRST_BYTES_S`; beyond `WAITING_MAX` of them the one
that has been silent longest is closed for each new one, and beyond `PER_ADDRESS_MAX` of one address that address's. So
silence neither uses the service up nor keeps others out: who means to speak does so within a round trip.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address

from jitgate.core.sockets import peeked, taken
from jitgate.gateway import hello, proxy
from jitgate.hosts.agent_wire import ALPN, DIALBACK_ALPN
from jitgate.identity.throttle import address_subject
from jitgate.ssh.wire import FormatError

FIRST_BYTES_S = 10.0  # seconds; a slow mobile link sends its first packet well within
WAITING_MAX = 1024  # connections at a time that are silent or in a handshake
PER_ADDRESS_MAX = 256  # of them, from one address, IPv6 by its /64: behind one may be an office, not the whole port
ACCEPT_PAUSE_S = 0.1  # seconds to wait when the system has no descriptor left
TUNNEL = b"jitgate-tunnel/1"
"""The ALPN name of the tunnel (RFC 7301)."""

AGENT, DIALBACK = ALPN.encode(), DIALBACK_ALPN.encode()

_LOG = logging.getLogger("jitgate.gateway")


class Carries(StrEnum):
    """What a connection's first bytes say that it carries."""

    TLS = "tls"
    TUNNEL = "tunnel"  # TLS whose ClientHello offers our own protocol
    AGENT = "agent"
    DIALBACK = "dialback"
    HTTP = "http"
    SSH = "ssh"


_OURS = {Carries.TUNNEL: TUNNEL, Carries.AGENT: AGENT, Carries.DIALBACK: DIALBACK}

Handler = Callable[[socket.socket, str], Awaitable[None]]
"""Takes an accepted connection and the address that it comes from."""


@dataclass(slots=True)
class _Crowd:
    """Those who wait, in the order of their coming, with the subject that each is counted under: its address, ""
    while a proxy has not said it."""

    tasks: dict[asyncio.Task[None], str]
    addresses: Counter[str]

    def add(self, task: asyncio.Task[None], address: str) -> None:
        if self.addresses[address] >= PER_ADDRESS_MAX:
            self._hang_up(next(each for each, at in self.tasks.items() if at == address))
        elif len(self.tasks) >= WAITING_MAX:
            self._hang_up(next(iter(self.tasks)))
        self.tasks[task] = address
        self.addresses[address] += 1

    def remove(self, task: asyncio.Task[None]) -> None:
        address = self.tasks.pop(task, None)
        if address is not None:
            self.addresses[address] -= 1
            if not self.addresses[address]:
                del self.addresses[address]

    def known(self, task: asyncio.Task[None], address: str) -> None:
        """A proxy has said whose it is: from here on it is counted under that address."""
        if task in self.tasks:  # not hung up on meanwhile
            self.remove(task)
            self.add(task, address)

    def _hang_up(self, task: asyncio.Task[None]) -> None:
        self.remove(task)
        task.cancel()


def carries(first: bytes) -> Carries | None:
    """From the first bytes: a TLS record (RFC 8446 5.1), an SSH greeting (RFC 4253 4.2), an HTTP method; else None."""
    if first[:1] == b"\x16":
        return Carries.TLS
    if first[:4] == b"SSH-":
        return Carries.SSH
    return Carries.HTTP if first[:1].isalpha() and first[:1].isupper() else None


async def listen(
    listener: socket.socket,
    handlers: Mapping[Carries, Handler],
    proxies: tuple[IPv4Network | IPv6Network, ...] = (),
) -> None:
    """Accept until cancelled. The listener is non-blocking and stays the caller's; each accepted socket is handed on
    to the handler for what it carries, or closed. From `proxies` a PROXY header has to come first; it says the address.
    """
    loop = asyncio.get_running_loop()
    crowd = _Crowd({}, Counter())
    try:
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as problem:  # out of descriptors: a pause lets others close theirs
                _LOG.warning("cannot accept: %s", problem)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            address = proxy.plain_address(peer[0])
            proxied = any(ip_address(address) in network for network in proxies)
            task = asyncio.create_task(_hand_on(connection, handlers, address, crowd if proxied else None))
            crowd.add(task, "" if proxied else address_subject(address))
            task.add_done_callback(partial(_gone, crowd, connection))
    finally:
        for task in crowd.tasks:
            task.cancel()


def _gone(crowd: _Crowd, connection: socket.socket, task: asyncio.Task[None]) -> None:
    crowd.remove(task)
    if task.cancelled():  # perhaps before it began, so it cannot close its connection itself
        connection.close()


async def _hand_on(
    connection: socket.socket, handlers: Mapping[Carries, Handler], address: str, proxied: _Crowd | None
) -> None:
    """`proxied`: the crowd that it is in, where a header is to say who it is."""
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(FIRST_BYTES_S):
            if proxied:
                address = await _proxied_source(connection) or address
                if task := asyncio.current_task():
                    proxied.known(task, address_subject(address))
            kind = await _what(connection, handlers)
        handler = handlers.get(kind) if kind else None
        if handler is None:
            connection.close()
        else:
            await handler(connection, address)
    except (OSError, TimeoutError):
        connection.close()
    except FormatError as problem:  # a listed proxy does not say what it has to
        _LOG.warning("from a listed proxy: %s", problem, extra={"proxy": address})
        connection.close()
    except Exception:  # noqa: BLE001  # whatever it was, it is this connection's end and no other's
        connection.close()
        _LOG.exception("a connection crashed")


async def _proxied_source(connection: socket.socket) -> str | None:
    head = await taken(connection, proxy.HEAD)
    rest = await taken(connection, size) if (size := proxy.rest_size(head)) else b""
    return proxy.source(head, rest)


async def _what(connection: socket.socket, handlers: Mapping[Carries, Handler]) -> Carries | None:
    first = await peeked(connection, 1)
    if first == b"S":  # also how a few methods of HTTP begin
        first = await peeked(connection, 4)
    kind = carries(first)
    if kind is Carries.TLS and not _OURS.keys().isdisjoint(handlers):
        offered = await _offered(connection)
        return next((each for each, name in _OURS.items() if each in handlers and name in offered), kind)
    return kind


async def _offered(connection: socket.socket) -> tuple[bytes, ...]:
    """The ALPN names of a ClientHello."""
    try:
        size = hello.hello_size(await peeked(connection, hello.RECORD_HEAD))
        return hello.protocols(await peeked(connection, size))
    except FormatError:
        return ()  # whatever it is, TLS itself will say no to it
