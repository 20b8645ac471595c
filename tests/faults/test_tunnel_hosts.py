"""Hosts that refuse, reset, stall or vanish, networks with proxies in them, and a carrier that dies."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import tunnel
from tests.gate import Gate, open_gate
from tests.unit.gateway.test_proxy import header
from tests.world import World

from jitgate.core.clock import HOUR, SECOND
from jitgate.gateway import dial

LOCAL = (ipaddress.ip_network("127.0.0.1/32"),)
WORDS = os.urandom(500_000)


def resets_at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def resets_after_words(connection: socket.socket) -> None:
    connection.sendall(WORDS)
    connection.recv(1)  # the client has them
    resets_at_once(connection)


def says_nothing(connection: socket.socket) -> None:
    connection.recv(1)


async def refused(gate: Gate, host: str) -> dict[str, object]:
    return await asyncio.to_thread(tunnel.refused, gate, await gate.ticket(host), host)


async def test_a_host_that_resets_at_once(world: World, tmp_path: Path):
    """If it is noticed while we dial, nobody is let through; else the session ends with the reason."""

    def visit(gate: Gate, ticket: str) -> tuple[dict[str, object], bytes]:
        with contextlib.closing(tunnel.shaken(gate)) as tls:
            said = tunnel.ask(tls, ticket, "rude")
            return said, tunnel.rest(tls.unwrap()) if said["ok"] else b""

    with tunnel.host(resets_at_once) as port:
        async with open_gate(world, tmp_path) as gate:
            await gate.host("rude", port)
            said, more = await asyncio.to_thread(visit, gate, await gate.ticket("rude"))
            assert more == b""
            if said["ok"]:
                assert await gate.ended(str(said["session"])) in ("the host's connection broke", "the host closed it")
            else:
                assert (said["code"], said["detail"]) == ("host_unreachable", "rude reset the connection")


async def test_a_host_that_resets_in_the_middle(world: World, tmp_path: Path):
    with tunnel.host(resets_after_words) as port:
        async with open_gate(world, tmp_path) as gate:
            await gate.host("rude", port)
            way = await asyncio.to_thread(tunnel.opened, gate, await gate.ticket("rude"), "rude")
            assert await asyncio.to_thread(tunnel.exactly, way.socket, len(WORDS)) == WORDS
            way.socket.sendall(b"x")
            assert await asyncio.to_thread(tunnel.rest, way.socket) == b""
            assert await gate.ended(way.session) == "the host's connection broke"
            way.socket.close()


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """Its queue is full, so the system answers nothing: as behind a firewall that drops."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as stack:
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
        yield deaf.getsockname()[1]


async def test_a_host_that_never_answers_the_call(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dial.dial, "__kwdefaults__", {"seconds": 0.3})
    with deaf_port() as port:
        async with open_gate(world, tmp_path) as gate:
            await gate.host("deaf", port)
            said = await refused(gate, "deaf")
            assert said["code"] == "host_unreachable"
            assert said["detail"] == "deaf did not answer within 0 s"
            assert said["hint"] == "is it up, and does a firewall let us in?"
            assert await gate.refusals() == ["host_unreachable"]
            assert gate.meters.refusals == {"host_unreachable": 1}


async def test_a_stop_does_not_wait_for_a_host_that_does_not_answer(world: World, tmp_path: Path):
    def asked(gate: Gate, ticket: str) -> bytes:
        with contextlib.closing(tunnel.shaken(gate)) as tls, contextlib.suppress(AssertionError, OSError):
            tunnel.ask(tls, ticket, "deaf")
        return b"hung up"

    with deaf_port() as port:
        async with open_gate(world, tmp_path) as gate:
            await gate.host("deaf", port)
            asking = asyncio.create_task(asyncio.to_thread(asked, gate, await gate.ticket("deaf")))
            while not gate.tunnels._dialling:  # noqa: ASYNC110  # it is told to nobody
                await asyncio.sleep(0.01)
            await gate.tunnels.stop()
            assert await asking == b"hung up"
            assert gate.meters.open == 0


async def test_a_host_that_says_nothing_costs_nothing_and_ends_at_the_deadline(world: World, tmp_path: Path):
    with tunnel.host(says_nothing) as port:
        async with open_gate(world, tmp_path) as gate:
            await gate.host("quiet", port)
            way = await asyncio.to_thread(tunnel.opened, gate, await gate.ticket("quiet"), "quiet")
            world.clock.advance(HOUR - SECOND)
            await asyncio.sleep(0.6)
            assert gate.meters.open == 1
            world.clock.advance(SECOND)
            assert await asyncio.to_thread(tunnel.rest, way.socket) == b""
            assert await gate.ended(way.session) == "its time was up"
            way.socket.close()


async def test_a_host_of_ipv6(world: World, tmp_path: Path):
    with tunnel.host(tunnel.echo, "::1") as port:
        async with open_gate(world, tmp_path) as gate:
            await gate.host("six", port, "::1")
            way = await asyncio.to_thread(tunnel.opened, gate, await gate.ticket("six"), "six")
            assert await asyncio.to_thread(tunnel.exactly, way.socket, 6) == b"hello\n"
            way.socket.close()


async def test_each_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch):
    """As with a name that has an IPv6 address which does not answer."""
    with tunnel.host(tunnel.echo) as port, socket.create_server(("127.0.0.1", 0)) as probe:
        shut = probe.getsockname()[1]
        probe.close()
        loop = asyncio.get_running_loop()
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", at)) for at in (shut, port)]

        async def looked_up(*_: object, **__: object) -> object:
            return found

        monkeypatch.setattr(loop, "getaddrinfo", looked_up)
        with await dial.dial("web1", "web1.internal", 22) as connection:
            assert connection.getpeername()[1] == port
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def test_behind_a_listed_proxy_the_address_is_the_clients(world: World, tmp_path: Path):
    """For tunnels and for everything else on the port; from there a header has to come, from elsewhere it may not."""

    def tunnelled(gate: Gate, ticket: str) -> tunnel.Tunnel:
        connection = tunnel.dialled(gate)
        connection.sendall(header("198.51.100.7"))
        return tunnel.opened(gate, ticket, "echo", connection)

    def sent(gate: Gate, data: bytes, source: str = "") -> bytes:
        with tunnel.dialled(gate, source=source) as connection:
            connection.sendall(data)
            return tunnel.rest(connection)

    with tunnel.host(tunnel.echo) as port:
        async with open_gate(world, tmp_path, proxies=LOCAL) as gate:
            await gate.host("echo", port)
            way = await asyncio.to_thread(tunnelled, gate, await gate.ticket("echo"))
            session = await world.store.read(lambda tx: tx.sessions.by_id(way.session))
            assert session is not None
            assert session.source == "198.51.100.7"
            way.socket.close()
            for client in ("192.0.2.9", "2001:db8::9"):
                assert await asyncio.to_thread(sent, gate, header(client) + b"GET / ") == client.encode()
            assert await asyncio.to_thread(sent, gate, header(command=0x20) + b"GET / ") == b"127.0.0.1"
            assert await asyncio.to_thread(sent, gate, b"GET / HTTP/1.1\r\n\r\n") == b""
            assert await asyncio.to_thread(sent, gate, b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nGET / ") == b""
            assert await asyncio.to_thread(sent, gate, header()[:20] + b"\xff" * 40) != b"192.0.2.7"
            assert await asyncio.to_thread(sent, gate, b"GET / ", "127.0.0.2") == b"127.0.0.2"
            gate.sources.clear()
            assert await asyncio.to_thread(sent, gate, header() + b"GET / ", "127.0.0.2") == b""
            assert gate.sources == []


async def test_a_carrier_that_dies_ends_its_sessions_and_another_goes_on(world: World, tmp_path: Path):
    with tunnel.host(tunnel.echo) as port:
        async with open_gate(world, tmp_path) as gate:
            await gate.host("echo", port)
            ticket = await gate.ticket("echo")
            way = await asyncio.to_thread(tunnel.opened, gate, ticket, "echo")
            process = gate.tunnels._carrier._process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            assert await asyncio.to_thread(tunnel.rest, way.socket) in (b"", b"hello\n")
            assert await gate.ended(way.session) == "the gateway crashed"
            again = await asyncio.to_thread(tunnel.opened, gate, ticket, "echo")
            assert await asyncio.to_thread(tunnel.exactly, again.socket, 6) == b"hello\n"
            for each in (way, again):
                each.socket.close()


async def test_a_carrier_that_dies_while_a_tunnel_opens_is_replaced(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killed: list[int] = []

    async def dies_once() -> None:
        await ready()
        process = gate.tunnels._carrier._process
        if process is not None and not killed:
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)

    with tunnel.host(tunnel.echo) as port:
        async with open_gate(world, tmp_path) as gate:
            ready = gate.tunnels._carrier.ready
            monkeypatch.setattr(gate.tunnels._carrier, "ready", dies_once)
            await gate.host("echo", port)
            way = await asyncio.to_thread(tunnel.opened, gate, await gate.ticket("echo"), "echo")
            with contextlib.closing(way.socket):
                assert await asyncio.to_thread(tunnel.exactly, way.socket, 6) == b"hello\n"
    assert killed


async def test_with_tls_kept_on_a_relay_carries(world: World, tmp_path: Path):
    def kept(gate: Gate, ticket: str) -> str:
        with contextlib.closing(tunnel.shaken(gate)) as tls:
            said = tunnel.ask(tls, ticket, "echo")
            assert said["ok"], said
            assert tunnel.exactly(tls, 6) == b"hello\n"
            tls.sendall(WORDS[:100_000])
            assert tunnel.exactly(tls, 100_000) == WORDS[:100_000]
            tls.unwrap()  # TLS's own end: the host's answer to it is the end of the stream
            return str(said["session"])

    def cut(gate: Gate, ticket: str) -> tuple[str, bytes]:
        with contextlib.closing(tunnel.shaken(gate)) as tls:
            said = tunnel.ask(tls, ticket, "echo")
            assert tunnel.exactly(tls, 6) == b"hello\n"
            asyncio.run_coroutine_threadsafe(kill(str(said["session"])), loop).result()
            return str(said["session"]), tunnel.rest(tls)

    async def kill(session: str) -> None:
        gate.tunnels._relays.end(session)

    loop = asyncio.get_running_loop()
    with tunnel.host(tunnel.echo) as port:
        async with open_gate(world, tmp_path, keep_tls=True) as gate:
            await gate.host("echo", port)
            ticket = await gate.ticket("echo")
            assert await gate.ended(await asyncio.to_thread(kept, gate, ticket)) == "the client closed it"
            assert gate.meters.bytes == [100_000, 100_006]
            session, said = await asyncio.to_thread(cut, gate, ticket)
            assert said == b""
            assert await gate.ended(session) == "it was killed"
