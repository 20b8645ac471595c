"""Dials back: one fresh connection to the gateway for each session it asks for, joined to this host's sshd.

Which sshd stands in the settings since this host joined (`sshd_at`): an address of this machine and a port. Nothing
that a gateway says names another; a message has an id and a secret, and no place for an address. Without that line
nothing is dialled back at all.
"""

import asyncio
import contextlib
import json
import logging
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from jitgate.agent import tls
from jitgate.agent.pins import Gateway
from jitgate.core.clock import Clock
from jitgate.core.errors import BadInput, Error, TooMany, Unreachable
from jitgate.core.fields import read_json
from jitgate.core.sockets import connected, exactly, framed, tried
from jitgate.core.tasks import Tasks
from jitgate.core.text import shown
from jitgate.hosts.agent_wire import DIALBACK_ALPN, Dial

OPEN_S: Final = 15.0  # seconds for both connections, TLS and the answer
OPENING_MAX: Final = 64
CARRIED_MAX: Final = 512  # sessions at a time; each holds two sockets and two buffers
CHUNK: Final = 64 << 10
_ANSWER_MAX: Final = 1024
_AT: Final = re.compile(r"(?:\[([0-9a-f:]+)\]|([0-9.]+)):([0-9]{1,5})")
_LOG: Final = logging.getLogger("jitgate.agent")


@dataclass(frozen=True, slots=True)
class LocalSshd:
    """Where this machine's own sshd listens: an address that is loopback or stands at this machine, and a port."""

    address: str
    port: int

    def __post_init__(self) -> None:
        if not 0 < self.port < 1 << 16 or not is_own(self.address):
            raise BadInput(f"not an address of this machine: {shown(self.address)} port {self.port}")

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_at(text: str) -> LocalSshd:
    """`127.0.0.1:22` or `[::1]:22`; `BadInput` for everything else, and for another machine's address."""
    found = _AT.fullmatch(text)
    if not found:
        raise BadInput(f"not an address and port: {shown(text)}", "as 127.0.0.1:22")
    try:
        return LocalSshd(str(ip_address(found[1] or found[2])), int(found[3]))
    except ValueError:
        raise BadInput(f"not an address: {shown(text)}", "as 127.0.0.1:22") from None


def is_own(address: str) -> bool:
    """Whether it is one address, and this machine's: loopback, or one that a socket here can have."""
    try:
        known = ip_address(address)
    except ValueError:
        return False
    if known.is_unspecified or known.is_multicast:
        return False
    if known.is_loopback:
        return True
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6 if known.version == 6 else socket.AF_INET) as own:  # noqa: PLR2004  # IP's
        own.bind((address, 0))
        return True
    return False


def local_sshd(effective: Mapping[str, tuple[str, ...]]) -> LocalSshd | None:
    """From what `sshd -T` says: the first address that it listens on, loopback where it listens everywhere."""
    for listener in effective.get("listenaddress", ()):
        address, _, port = listener.rpartition(":")
        address = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(address, address.strip("[]"))  # noqa: S104  # compared with
        if port.isdecimal() and is_own(address):
            return LocalSshd(address, int(port))
    return None


@dataclass(slots=True)
class Dialler:
    """`authority`: the TLS authority of the gateways, in PEM, or empty; asked for at each dial, as for the agent's own
    connection."""

    sshd: LocalSshd
    authority: Callable[[], bytes]
    clock: Clock
    offset: Callable[[], int] = lambda: 0
    _opening: int = 0
    _carried: Tasks = field(default_factory=lambda: Tasks(_LOG, "a session that was dialled back"))
    _seen: dict[str, None] = field(default_factory=dict)

    async def dial_back(self, dial: Dial, gateway: Gateway) -> None:
        """For `Agent.on_dial`. Whatever goes wrong is logged: the person who waits is told by the gateway."""
        try:
            self._check(dial)
            self._opening += 1
            try:
                async with asyncio.timeout(OPEN_S):
                    far, near = await self._open(dial, gateway)
            finally:
                self._opening -= 1
        except (Error, OSError, TimeoutError) as error:
            _LOG.warning("not dialled back: %s", error if str(error) else "no answer in time")
            return
        self._carried.start(carry(far, near))

    def _check(self, dial: Dial) -> None:
        if self._opening >= OPENING_MAX or len(self._carried) >= CARRIED_MAX:
            raise TooMany("as many sessions are carried as this agent takes")
        if dial.id in self._seen:
            raise BadInput("the gateway asks twice for one session")
        if self.clock() + self.offset() >= dial.expires_at:
            raise BadInput("the gateway's question is too old")
        self._seen[dial.id] = None
        while len(self._seen) > CARRIED_MAX:
            del self._seen[next(iter(self._seen))]

    async def _open(self, dial: Dial, gateway: Gateway) -> tuple[socket.socket, socket.socket]:
        """First the sshd: the gateway records where the session comes from, as this sshd logs it."""
        near = await _connected(self.sshd.address, self.sshd.port)
        try:
            address, port = near.getsockname()[:2]
            pem = await asyncio.to_thread(self.authority)
            far = await _connected(gateway.address, gateway.port)
            try:
                said = {"v": 1, "id": dial.id, "secret": dial.secret, "address": address, "port": port}
                bare = await _present(far, tls.context(pem, DIALBACK_ALPN), gateway.server_name, said)
            except BaseException:
                far.close()
                raise
        except BaseException:
            near.close()
            raise
        return bare, near


async def _connected(address: str, port: int) -> socket.socket:
    return await connected(await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_STREAM))


async def _present(
    connection: socket.socket, context: ssl.SSLContext, server_name: str, said: Mapping[str, object]
) -> socket.socket:
    """The bare socket, once the gateway has said yes and both have ended TLS."""
    secure = context.wrap_socket(connection, server_hostname=server_name, do_handshake_on_connect=False)
    try:
        await tried(secure, secure.do_handshake)
        data = framed(json.dumps(said).encode("ascii"))
        await tried(secure, lambda: secure.send(data))  # less than a record holds: all of it or nothing
        size = int.from_bytes(await _taken(secure, 4), "big")
        _check_yes(await _taken(secure, size if 0 < size <= _ANSWER_MAX else 0))
        await tried(secure, secure.unwrap)
    except BaseException:
        secure.close()
        raise
    return socket.socket(fileno=secure.detach())  # the loop takes no object of the other class


def _check_yes(unverified: bytes) -> None:
    answer = read_json(unverified, "the gateway's answer")
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        raise Unreachable("the gateway does not take the connection back")


async def _taken(secure: ssl.SSLSocket, count: int) -> bytes:
    if (found := await exactly(secure, count)) is None:
        raise Unreachable("the gateway hung up")
    return found


async def carry(one: socket.socket, other: socket.socket) -> None:
    """Every byte both ways, and the end of each direction, until both have ended or one breaks. Closes both."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(one, other))
            both.create_task(_copy(other, one))
    except* OSError:
        pass
    finally:
        one.close()
        other.close()


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while count := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, view[:count])
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
