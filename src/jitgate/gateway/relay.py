"""Tunnels whose TLS stays on (`keep_tls`): bytes are decrypted here, so they pass through this process.

For networks that would see SSH inside otherwise, and do not let it pass. Slower than the other way by far, and at most
one buffer of `CHUNK` bytes in each direction is held.
"""

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass

from jitgate.core.sockets import readable, tried, writable
from jitgate.gateway.carrier import OnEnd, OnMoved
from jitgate.sessions.session import Why

CHUNK = 64 * 1024  # bytes held in one direction: four TLS records


@dataclass(slots=True)
class _Relayed:
    task: asyncio.Task[None] | None = None
    why: Why | None = None
    up: int = 0
    down: int = 0

    def first(self, why: Why) -> None:
        self.why = self.why or why


class Relays:
    def __init__(self, on_end: OnEnd, on_moved: OnMoved) -> None:
        self._on_end, self._on_moved = on_end, on_moved
        self._relayed: dict[str, _Relayed] = {}

    def carry(self, session_id: str, client: ssl.SSLSocket, host: socket.socket) -> None:
        """Both sockets are ours from now on."""
        each = self._relayed[session_id] = _Relayed()
        each.task = asyncio.create_task(self._run(each, client, host))
        # not in the task itself: one that is ended before its first step takes none
        each.task.add_done_callback(lambda _: self._over(session_id, each, client, host))

    def end(self, session_id: str) -> None:
        each = self._relayed.get(session_id)
        if each is not None and each.task is not None:
            each.task.cancel()

    async def stop(self) -> None:
        """End all."""
        tasks = [each.task for each in self._relayed.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, session_id: str, each: _Relayed, client: ssl.SSLSocket, host: socket.socket) -> None:
        client.close()
        host.close()
        del self._relayed[session_id]
        self._on_end(session_id, each.why, each.up, each.down)

    async def _run(self, each: _Relayed, client: ssl.SSLSocket, host: socket.socket) -> None:
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._up(each, client, host))
                both.create_task(self._down(each, client, host))
        except* OSError:
            each.first(Why.CLIENT_GONE)

    async def _up(self, each: _Relayed, client: ssl.SSLSocket, host: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await tried(client, lambda: client.recv(CHUNK)):
            try:
                await loop.sock_sendall(host, data)
            except OSError:
                each.first(Why.HOST_GONE)
                raise
            each.up += len(data)
            self._on_moved(len(data), 0)
        each.first(Why.CLIENT_CLOSED)
        with contextlib.suppress(OSError):
            host.shutdown(socket.SHUT_WR)

    async def _down(self, each: _Relayed, client: ssl.SSLSocket, host: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(host, CHUNK)
            except OSError:
                each.first(Why.HOST_GONE)
                raise
            if not data:
                break
            rest = memoryview(data)
            while rest:
                rest = rest[await self._sent(client, rest) :]
            each.down += len(data)
            self._on_moved(0, len(data))
        each.first(Why.HOST_CLOSED)
        with contextlib.suppress(ssl.SSLWantReadError, OSError):
            client.unwrap()  # sends close_notify, TLS's own half-close; the client's is read by `_up`

    async def _sent(self, client: ssl.SSLSocket, data: memoryview) -> int:
        while True:
            try:
                return client.send(data)
            except ssl.SSLWantWriteError:
                await writable(client)
            except ssl.SSLWantReadError:  # a key update (RFC 8446 4.6.3)
                await readable(client)
