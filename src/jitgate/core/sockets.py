"""Bare sockets in the event loop, with no transport that would read ahead: waiting, TLS on them, connecting."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

T = TypeVar("T")
_KEEPALIVE: Final = (  # a peer that vanished is noticed within a minute
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""(level, option, value) for each socket of a tunnel. No TCP_USER_TIMEOUT: it would also end a session whose person has
stopped their terminal (a receive window of zero)."""


async def readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    descriptor = connection.fileno()
    loop.add_reader(descriptor, _set, done)
    try:
        await done
    finally:
        loop.remove_reader(descriptor)


async def writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    descriptor = connection.fileno()
    loop.add_writer(descriptor, _set, done)
    try:
        await done
    finally:
        loop.remove_writer(descriptor)


def _set(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


async def tried(connection: ssl.SSLSocket, act: Callable[[], T]) -> T:
    """What a TLS operation gives on a non-blocking socket, as often as it has to be tried."""
    while True:
        try:
            return act()
        except ssl.SSLWantReadError:
            await readable(connection)
        except ssl.SSLWantWriteError:
            await writable(connection)


async def peeked(connection: socket.socket, count: int) -> bytes:
    """The first bytes, left in the socket, once there are `count` of them; fewer if the client closed.

    The system wakes us only when so many have come (SO_RCVLOWAT, socket(7)): who sends byte by byte costs nothing.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    try:
        await readable(connection)
        return connection.recv(count, socket.MSG_PEEK)
    finally:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def taken(connection: socket.socket, count: int) -> bytes:
    """Exactly so many bytes off the socket, once they have all come; fewer if the client closed."""
    await peeked(connection, count)
    return connection.recv(count)


async def exactly(connection: ssl.SSLSocket, count: int) -> bytes | None:
    """So many bytes out of TLS; None where the other side ended before. Raises `OSError`."""
    found = b""
    while len(found) < count:
        more = await tried(connection, lambda: connection.recv(count - len(found)))  # noqa: B023  # called before the next round
        if not more:
            return None
        found += more
    return found


def framed(document: bytes) -> bytes:
    """What is said on a tunnel before it carries anything: a length (uint32, big-endian), and so many bytes."""
    return len(document).to_bytes(4, "big") + document


async def connected(found: Iterable[tuple[Any, ...]]) -> socket.socket:
    """To the first address that answers, of what `getaddrinfo` found; else `OSError`, what the last one said."""
    loop = asyncio.get_running_loop()
    problem = OSError(errno.EHOSTUNREACH, "no address")
    for family, kind, protocol, _, where in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            set_options(connection)
            await loop.sock_connect(connection, where)
        except OSError as error:
            connection.close()
            problem = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise problem


def set_options(connection: socket.socket) -> None:
    for level, option, value in _KEEPALIVE:
        with contextlib.suppress(OSError):  # a socket that is no TCP socket, in a test
            connection.setsockopt(level, option, value)
