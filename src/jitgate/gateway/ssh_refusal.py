"""A client that speaks SSH to the port: it is told what to use, in its own protocol.

An identification string (RFC 4253 4.2), then SSH_MSG_DISCONNECT (11.1) in an unencrypted packet (6), which a client
takes at any time and shows.
"""

import asyncio
import contextlib
import socket

from jitgate.ssh.wire import put_string, put_uint32

TEXT = "this port takes SSH by jitctl only: jitctl login URL, then jitctl vm connect HOST"
LISTEN_S = 3.0  # seconds for what the client sends meanwhile, so that closing does not throw our words away
HEARD_MAX = 64 * 1024  # bytes of it

_DISCONNECT, _NOT_AVAILABLE = 1, 7  # SSH_DISCONNECT_SERVICE_NOT_AVAILABLE


def words() -> bytes:
    payload = bytes([_DISCONNECT]) + put_uint32(_NOT_AVAILABLE) + put_string(TEXT) + put_string("en")
    padding = 4 + (-(4 + 1 + len(payload) + 4)) % 8
    return (
        b"SSH-2.0-jitgate\r\n" + put_uint32(1 + len(payload) + padding) + bytes([padding]) + payload + b"\0" * padding
    )


async def refuse_ssh(connection: socket.socket, _source: str) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.closing(connection), contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LISTEN_S):
            await loop.sock_sendall(connection, words())
            connection.shutdown(socket.SHUT_WR)
            heard = 0
            while heard < HEARD_MAX and (more := await loop.sock_recv(connection, 4096)):
                heard += len(more)
