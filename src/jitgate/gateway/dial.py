"""Dialling a host: each address it has, one after the other, within one time; plain words when none answers."""

import asyncio
import errno
import socket

from jitgate.core.errors import Unreachable
from jitgate.core.sockets import connected

DIAL_S = 10.0  # seconds in all: three lost SYNs; a person waits no longer before they try again
REFUSED_S = 1.0  # an sshd that is told to read its settings again closes its port for a moment
_AGAIN_S = 0.1
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
                    return await connected(found)
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


def _unreachable(name: str, said: str, hint: str) -> Unreachable:
    return Unreachable(f"{name} {said}", hint, code="host_unreachable")
