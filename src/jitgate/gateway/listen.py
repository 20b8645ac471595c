"""One port for everything: accept, look at the first bytes without taking them, hand the socket on.

A client that says nothing costs one socket and one timer until `FIRST_BYTES_S`; beyond `WAITING_MAX` of them the one
that has been silent longest is closed for each new one. So silence neither uses the service up nor keeps others out:
who means to speak does so within a round trip.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from functools import partial

FIRST_BYTES_S = 10.0  # seconds; a slow mobile link sends its first packet well within
WAITING_MAX = 1024  # connections at a time that are silent or in a handshake
ACCEPT_PAUSE_S = 0.1  # seconds to wait when the system has no descriptor left

_LOG = logging.getLogger("jitgate.gateway")


class Carries(StrEnum):
    """What a connection's first bytes say that it carries."""

    TLS = "tls"
    HTTP = "http"
    SSH = "ssh"


Handler = Callable[[socket.socket], Awaitable[None]]


def carries(first: bytes) -> Carries | None:
    """From the first bytes: a TLS record (RFC 8446 5.1), an SSH greeting (RFC 4253 4.2), an HTTP method; else None."""
    if first[:1] == b"\x16":
        return Carries.TLS
    if first[:4] == b"SSH-":
        return Carries.SSH
    return Carries.HTTP if first[:1].isalpha() and first[:1].isupper() else None


async def listen(listener: socket.socket, handlers: Mapping[Carries, Handler]) -> None:
    """Accept until cancelled. The listener is non-blocking and stays the caller's; each accepted socket is handed on
    to the handler for what it carries, or closed."""
    loop = asyncio.get_running_loop()
    waiting: dict[asyncio.Task[None], None] = {}  # in the order of their coming
    try:
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as problem:  # out of descriptors: a pause lets others close theirs
                _LOG.warning("cannot accept: %s", problem)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            if len(waiting) >= WAITING_MAX:
                oldest = next(iter(waiting))
                del waiting[oldest]
                oldest.cancel()
            task = asyncio.create_task(_hand_on(connection, handlers))
            waiting[task] = None
            task.add_done_callback(partial(_gone, waiting, connection))
    finally:
        for task in waiting:
            task.cancel()


def _gone(waiting: dict[asyncio.Task[None], None], connection: socket.socket, task: asyncio.Task[None]) -> None:
    waiting.pop(task, None)
    if task.cancelled():  # perhaps before it began, so it cannot close its connection itself
        connection.close()


async def _hand_on(connection: socket.socket, handlers: Mapping[Carries, Handler]) -> None:
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(FIRST_BYTES_S):
            first = await _peek(connection)
        kind = carries(first)
        handler = handlers.get(kind) if kind else None
        if handler is None:
            connection.close()
        else:
            await handler(connection)
    except (OSError, TimeoutError):
        connection.close()
    except Exception:  # noqa: BLE001  # whatever it was, it is this connection's end and no other's
        connection.close()
        _LOG.exception("a connection crashed")


async def _peek(connection: socket.socket) -> bytes:
    """The first bytes that have come, left in the socket; empty when the client closed."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    descriptor = connection.fileno()

    def on_readable() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(descriptor, on_readable)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)
    return connection.recv(4, socket.MSG_PEEK)
