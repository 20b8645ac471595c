"""One outbound connection of an agent to one gateway: made, proved, kept, made again.

The agent dials and nothing is open on the host. TLS 1.3 to a server that the pinned authority vouches for; the host key
signs the service's nonce together with the certificate that was shown, so that nobody in between can use the proof.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from jitgate import __version__
from jitgate.agent import hostkey, tls
from jitgate.agent.pins import Gateway, Pins
from jitgate.core.clock import Clock
from jitgate.core.errors import BadInput, Denied, Error, Unreachable
from jitgate.core.text import shown
from jitgate.hosts.agent_wire import (
    ALPN,
    NAMESPACE,
    PING_S,
    SILENCE_S,
    TO_AGENT_MAX,
    AgentHello,
    FromAgent,
    FromService,
    Greeting,
    Have,
    Ping,
    Refused,
    Welcome,
    hello_bytes,
    length_of,
    put_frame,
    take_from_service,
)
from jitgate.ssh.private import SoftwareKey

_CONNECT_S: Final = 20.0
_FIRST_FRAME_MAX: Final = 1 << 14  # bytes: a greeting, a welcome, a refusal
_PAUSE_S: Final = 2.0  # the first pause; doubled with each failure, and a random part of it is waited
_PAUSE_MAX_S: Final = 60.0
_REFUSED_PAUSE_S: Final = 300.0  # who was refused is not let in by asking again and again
_STEADY_S: Final = 60.0  # a connection that lasted so long was a good one

_LOG: Final = logging.getLogger("jitgate.agent")


@dataclass(slots=True)
class Link:
    """A connection on which both sides have proved who they are."""

    gateway: Gateway
    welcome: Welcome
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, message: FromAgent) -> None:
        self.writer.write(put_frame(message))
        await self.writer.drain()

    async def receive(self) -> FromService:
        """The next message; `Unreachable` when it was silent for too long."""
        return await _receive(self.reader, TO_AGENT_MAX, SILENCE_S)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await self.writer.wait_closed()


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next try: random, so that a thousand agents do not come back in one moment."""

    failures: int = 0
    seconds: Callable[[float, float], float] = random.uniform

    def wait(self, *, lasted: float, refused: bool = False) -> float:
        if refused:
            return self.seconds(_REFUSED_PAUSE_S / 2, _REFUSED_PAUSE_S)
        self.failures = 0 if lasted >= _STEADY_S else self.failures + 1
        return self.seconds(0.1, min(_PAUSE_MAX_S, _PAUSE_S * 2 ** min(self.failures, 10)))


async def open_link(gateway: Gateway, pins: Pins, key: SoftwareKey, authority: bytes, have: Have, clock: Clock) -> Link:
    """`Unreachable`, `Denied` (the service refuses this host), `BadInput` (it is no service of ours)."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(
                gateway.address,
                gateway.port,
                ssl=tls.context(authority, ALPN),
                server_hostname=gateway.server_name,
            )
    except (OSError, TimeoutError) as error:
        why = (
            getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error) or "no answer in time"
        )
        raise Unreachable(f"{gateway.address} port {gateway.port}: {shown(str(why), 120)[1:-1]}") from None
    try:
        welcome = await _greet(reader, writer, pins, key, have, clock)
    except BaseException:
        writer.close()
        raise
    return Link(gateway, welcome, reader, writer)


async def _greet(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pins: Pins, key: SoftwareKey, have: Have, clock: Clock
) -> Welcome:
    secure = writer.get_extra_info("ssl_object")
    if secure.selected_alpn_protocol() != ALPN:
        raise BadInput("what answers there speaks no agent's protocol", "is this the gateway's port?")
    greeting = await _receive(reader, _FIRST_FRAME_MAX, _CONNECT_S)
    if not isinstance(greeting, Greeting):
        raise _refusal(greeting)
    shown_certificate = hashlib.sha256(secure.getpeercert(binary_form=True)).hexdigest()
    said = hello_bytes(pins.installation, pins.realm, pins.host, greeting.nonce, shown_certificate)
    proof = hostkey.prove(key, NAMESPACE, said)
    writer.write(put_frame(AgentHello(pins.realm, pins.host, __version__, proof, have, clock())))
    await writer.drain()
    answer = await _receive(reader, _FIRST_FRAME_MAX, _CONNECT_S)
    if not isinstance(answer, Welcome):
        raise _refusal(answer)
    return answer


def _refusal(message: FromService) -> Error:
    if isinstance(message, Refused):
        code, detail, hint = (_plain(text) for text in (message.code, message.detail, message.hint))
        return Denied(f"the service refuses this host: {detail}", hint, code=code)
    return BadInput("the service does not begin as it should")


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


async def _receive(reader: asyncio.StreamReader, most: int, seconds: float) -> FromService:
    try:
        async with asyncio.timeout(seconds):
            head = await reader.readexactly(4)
            body = await reader.readexactly(length_of(head, most))
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        silent = isinstance(error, TimeoutError)
        raise Unreachable("the service fell silent" if silent else "the service hung up") from None
    return take_from_service(body)


async def keep(
    dial: Callable[[], Awaitable[Link]],
    serve: Callable[[Link], Awaitable[None]],
    gateway: Gateway,
    clock: Clock,
    backoff: Backoff,
) -> None:
    """A connection to this gateway for as long as the agent runs."""
    loop = asyncio.get_running_loop()
    while True:
        began, refused = loop.time(), False
        try:
            link = await dial()
            _LOG.info("connected to %s port %s", gateway.address, gateway.port)
            pings = asyncio.create_task(_ping(link, clock))
            try:
                await serve(link)
            finally:
                pings.cancel()
                await link.close()
        except Error as error:
            refused = isinstance(error, Denied)
            _LOG.warning("%s%s", error.what, f" ({error.hint})" if error.hint else "")
        except OSError as error:
            _LOG.warning("%s port %s: %s", gateway.address, gateway.port, error)
        await asyncio.sleep(backoff.wait(lasted=loop.time() - began, refused=refused))


async def _ping(link: Link, clock: Clock) -> None:
    while True:
        await asyncio.sleep(PING_S * random.uniform(0.9, 1.1))  # noqa: S311  # spreads load, guards nothing
        try:
            await link.send(Ping(clock()))
        except OSError:
            return
