"""One agent's connection: TLS 1.3, then frames both ways.

A bare TLS socket in the event loop, like the tunnel's: no transport that would keep buffers for each of thousands.
"""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from jitgate.core.sockets import tried
from jitgate.gateway.handshake import shake_hands, tls_13
from jitgate.hosts.agent_wire import ALPN, length_of

PIECE = 1 << 16  # bytes given to TLS at once, so that a large frame does not hold up the others


@dataclass(slots=True, eq=False)
class Link:
    """`waiting`: how many want to write; each writes whole frames."""

    tls: ssl.SSLSocket
    waiting: int = 0
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, most: int) -> bytes:
        """The next frame's JSON. Raises `OSError` at the end of the stream, `BadInput` for a frame that is too long."""
        return await self._exactly(length_of(await self._exactly(4), most))

    async def write(self, parts: Sequence[bytes]) -> None:
        """Raises `OSError`."""
        if sum(map(len, parts)) <= PIECE:
            parts = [b"".join(parts)]  # one record, one call
        self.waiting += 1
        try:
            async with self._writing:
                for part in parts:
                    await self._write(memoryview(part))
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self.tls.close()

    def abort(self) -> None:
        """From another task than the reader's, which then ends by itself."""
        with contextlib.suppress(OSError):
            self.tls.shutdown(socket.SHUT_RDWR)

    async def _write(self, view: memoryview) -> None:
        while view:
            view = view[await tried(self.tls, partial(self.tls.send, view[:PIECE])) :]

    async def _exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            more = await tried(self.tls, partial(self.tls.recv, min(count - len(found), PIECE)))
            if not more:
                raise ConnectionAbortedError
            found += more
        return bytes(found)


def agent_context() -> ssl.SSLContext:
    """A certificate is still to be loaded."""
    return tls_13(ALPN)


async def accept(connection: socket.socket, context: ssl.SSLContext) -> Link:
    """TLS on an accepted, non-blocking socket, which is the result's from now on. Raises `OSError`, `BadInput`."""
    return Link(await shake_hands(connection, context, ALPN))


def served_certificate(context: ssl.SSLContext) -> str:
    """SHA-256 in hex of the certificate that the context shows, as a client sees it: by a handshake in memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE  # it is our own
    client.set_alpn_protocols([ALPN])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (near, far, near, far):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return hashlib.sha256(near.getpeercert(binary_form=True) or b"").hexdigest()
