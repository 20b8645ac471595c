"""Dialling a host: each address it has, one after the other, within one time; plain words when none answers."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterable
from typing import Any

from jitgate.core.errors import Unreachable

DIAL_S = 10.0  # seconds in all: three lost SYNs; a person waits no longer before they try again
REFUSED_S = 1.0  # an sshd that is told to read its settings again closes its port for a moment
_AGAIN_S = 0.1
KEEPALIVE = (  # a peer that vanished is noticed within a minute
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""(level, option, value) for each socket of a tunnel. No TCP_USER_TIMEOUT: it would also end a session whose person has
stopped their terminal (a receive window of zero)."""

_WORDS = {
    errno.ECONNREFUSED: ("refuses connections", "does sshd run there, and on that port?"),
    errno.EHOSTUNREACH: ("cannot be reached from the gateway", "is it up, and is there a route to it?"),
    errno.ENETUNREACH: ("cannot be reached from the gateway", "the gateway has no route to its network"),
    errno.ECONNRESET: ("reset the connection", "does sshd run there, and let the gateway in?"),
}


async def dial(name: str, address: str, port: int, *, seconds: float = DIAL_S) -> socket.socket:
    """A connected, non-blocking socket. `Unreachable` (`host_unreachable`) says what is wrong, by the host's `name`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM)
            refused_until = loop.time() + REFUSED_S
            while True:
                try:
                    return await _first(found)
                except ConnectionRefusedError:
                    if loop.time() > refused_until:
                        raise
                await asyncio.sleep(_AGAIN_S)
    except TimeoutError:
        raise _unreachable(
            name, f"did not answer within {seconds:.0f} s", "is it up, and does a firewall let us in?"
        ) from None
    except socket.gaierror:
        raise _unreachable(name, "has an address that the gateway cannot look up", "jitgate host ls") from None
    except OSError as error:
        said, hint = _WORDS.get(error.errno or 0, (f"cannot be reached: {error.strerror}", "ask who runs the gateway"))
        raise _unreachable(name, said, hint) from None


async def _first(found: Iterable[tuple[Any, ...]]) -> socket.socket:
    """The first address that answers; else what the last one said."""
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
    for level, option, value in KEEPALIVE:
        with contextlib.suppress(OSError):  # a socket that is no TCP socket, in a test
            connection.setsockopt(level, option, value)


def _unreachable(name: str, said: str, hint: str) -> Unreachable:
    return Unreachable(f"{name} {said}", hint, code="host_unreachable")
