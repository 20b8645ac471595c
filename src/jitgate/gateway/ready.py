"""Waiting for a bare socket in the event loop, with no transport that would read ahead."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


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
