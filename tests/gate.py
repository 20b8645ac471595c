"""A gateway in this process: the real listener, tunnels and carrier over the world's real store, on a port of loopback.

Its clients block, so they run in threads (`asyncio.to_thread`).
"""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.world import OPERATOR, SEALING, Visitor, World

from jitgate.app.settings import Settings
from jitgate.app.tls import load_certificate, make_authority
from jitgate.core.clock import system_clock
from jitgate.flow.hosts import add_host
from jitgate.gateway.handshake import tunnel_context
from jitgate.gateway.listen import Carries, listen
from jitgate.gateway.settings import Network
from jitgate.gateway.ssh_refusal import refuse_ssh
from jitgate.gateway.tunnel import Tunnels
from jitgate.sessions.path import GatewayPath
from jitgate.sessions.ticket import ticket_key
from jitgate.ssh.private import generate_ed25519

EVERYWHERE = b"""
role: everywhere
effect: allow
who: {groups: [engineers]}
what: {hosts: ["*"]}
as: [ubuntu]
"""


@dataclass(slots=True)
class Meters:
    open: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    bytes: list[int] = field(default_factory=lambda: [0, 0])

    def opened(self) -> None:
        self.open += 1

    def ended(self) -> None:
        self.open -= 1

    def refused(self, code: str) -> None:
        self.refusals[code] += 1

    def moved(self, up: int, down: int) -> None:
        self.bytes[0] += up
        self.bytes[1] += down


@dataclass(slots=True)
class Gate:
    """`port` and `settings`: what `tests.tunnel` dials and trusts."""

    world: World
    settings: Settings
    port: int
    tunnels: Tunnels
    meters: Meters
    sources: list[str] = field(default_factory=list)
    """Where those came from who asked for something else than a tunnel."""

    async def host(self, name: str, port: int, address: str = "127.0.0.1") -> None:
        line = generate_ed25519().public.line()
        more = {"logins": ["ubuntu"], "labels": {}, "host_key_line": line}
        await add_host(self.world.outside, OPERATOR, name=name, address=address, port=port, **more)  # type: ignore[arg-type]  # of several types

    async def ticket(self, host: str, person: Visitor | None = None) -> str:
        """Of alice at 127.0.0.1, unless it is somebody else's."""
        visitor = person or await self.world.enter("alice", "127.0.0.1")
        await visitor.grant(host)
        answer = await visitor.certificate(host)
        assert answer.status == 201, answer
        return str(answer.json["tunnel"]["ticket"])

    async def ended(self, session: str) -> str:
        """Why, once it has."""
        while True:
            found = await self.world.store.read(lambda tx: tx.sessions.by_id(session))
            if found is not None and found.ended_at is not None:
                return found.end_reason
            await asyncio.sleep(0.02)

    async def refusals(self) -> list[str]:
        """The codes of refused sessions in the log, once there is one."""
        while not (found := await self.world.events("session.refused")):  # noqa: ASYNC110  # it is told to nobody
            await asyncio.sleep(0.02)
        return [str(event["detail"]["code"]) for event in found]


@contextlib.asynccontextmanager
async def open_gate(
    world: World, folder: Path, *, proxies: tuple[Network, ...] = (), keep_tls: bool = False, address: str = "127.0.0.1"
) -> AsyncIterator[Gate]:
    settings = Settings(state=folder / "gate", url="https://127.0.0.1")
    settings.state.mkdir()
    make_authority(settings, system_clock())
    context = tunnel_context()
    load_certificate(context, settings, system_clock())
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=1024) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        key = ticket_key(SEALING)
        path = GatewayPath("127.0.0.1", port, "127.0.0.1", keep_tls=keep_tls, networks=(), only=False, key=key)
        world.change(gateway=path, node=world.new_id())
        await world.apply(EVERYWHERE)
        meters = Meters()
        tunnels = Tunnels(world.outside, context, meters, "node1")
        await tunnels.start()
        gate = Gate(world, settings, port, tunnels, meters)

        async def other(connection: socket.socket, source: str) -> None:
            with contextlib.closing(connection):
                gate.sources.append(source)
                await asyncio.get_running_loop().sock_sendall(connection, source.encode())

        handlers = {Carries.TUNNEL: tunnels.take, Carries.SSH: refuse_ssh, Carries.HTTP: other, Carries.TLS: other}
        tasks = [asyncio.create_task(listen(listener, handlers, proxies)), asyncio.create_task(tunnels.watch())]
        try:
            yield gate
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await tunnels.stop()
