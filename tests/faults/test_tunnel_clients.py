"""Clients of the tunnel that stop, crawl, lie or stay: bounded in time and number, told if they listen, and logged."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests import tunnel
from tests.gate import Gate, open_gate
from tests.unit.gateway.test_hello import hello
from tests.world import World

from jitgate.core import sockets
from jitgate.core.errors import Unreachable
from jitgate.flow import rates
from jitgate.gateway import listen
from jitgate.gateway import tunnel as tunnels
from jitgate.gateway.handshake import QUESTION_MAX
from jitgate.gateway.listen import TUNNEL

SOON_S = 0.5  # what a limit of seconds is here


@contextlib.asynccontextmanager
async def echo_gate(world: World, folder: Path, **more: Any) -> AsyncIterator[Gate]:
    """A gate with a host `echo` behind it."""
    with tunnel.host(tunnel.echo) as port:
        async with open_gate(world, folder, **more) as gate:
            await gate.host("echo", port)
            yield gate


async def works(gate: Gate) -> None:
    """Others are served."""

    def visit(ticket: str) -> None:
        with tunnel.opened(gate, ticket, "echo").socket as connection:
            connection.sendall(b"x")
            assert tunnel.exactly(connection, 7) == b"hello\nx"

    await asyncio.to_thread(visit, await gate.ticket("echo"))


def after(gate: Gate, data: bytes) -> bytes:
    """What comes back for these first bytes, until the other side closes."""
    with tunnel.dialled(gate) as connection:
        connection.sendall(data)
        return tunnel.rest(connection)


CLIENT_HELLO = hello(TUNNEL.decode(), server_name="127.0.0.1")


@pytest.mark.parametrize(
    "data",
    [b"\x16", CLIENT_HELLO[:4], CLIENT_HELLO[:5], CLIENT_HELLO[:-1], b"S", b"SSH"],
    ids=["a byte", "half a head", "a head", "all but one", "S", "SSH"],
)
async def test_who_stops_in_the_first_bytes_is_hung_up_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
):
    monkeypatch.setattr(listen, "FIRST_BYTES_S", SOON_S)
    async with echo_gate(world, tmp_path) as gate:
        assert await asyncio.to_thread(after, gate, data) == b""
        assert gate.sources == []
        await works(gate)


async def test_a_crawling_client_hello_wakes_nobody(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A byte at a time: looked at when it has come whole, not at each byte."""
    looked = 0
    peek = sockets.peeked

    async def counted(connection: socket.socket, count: int) -> bytes:
        nonlocal looked
        looked += 1
        return await peek(connection, count)

    monkeypatch.setattr(listen, "peeked", counted)

    def crawl(gate: Gate) -> bytes:
        with tunnel.dialled(gate) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(CLIENT_HELLO)):
                connection.sendall(CLIENT_HELLO[at : at + 1])
            return connection.recv(5)

    async with echo_gate(world, tmp_path) as gate:
        record = await asyncio.to_thread(crawl, gate)
        assert record[:2] == b"\x16\x03", "it is answered"
        assert looked == 3


async def test_who_stops_in_the_handshake_is_hung_up_on_and_logged_once_a_minute(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tunnels, "HANDSHAKE_S", SOON_S)
    async with echo_gate(world, tmp_path) as gate:
        answers = await asyncio.gather(*(asyncio.to_thread(after, gate, CLIENT_HELLO) for _ in range(3)))
        assert all(answer[:2] == b"\x16\x03" for answer in answers)
        garbage = CLIENT_HELLO + b"\x17\x03\x03\x00\x10" + b"x" * 16
        await asyncio.to_thread(after, gate, garbage)
        assert await gate.refusals() == ["tunnel_handshake"]
        (event,) = await world.events("session.refused")
        assert (event["source"], event["actor"]["kind"]) == ("127.0.0.1", "unknown")
        assert gate.meters.refusals == {"tunnel_handshake": 4}
        await works(gate)


async def test_an_older_tls_is_refused(world: World, tmp_path: Path):
    def old(gate: Gate) -> None:
        context = tunnel.trusting(gate)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with tunnel.dialled(gate) as connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_hostname="127.0.0.1")

    async with echo_gate(world, tmp_path) as gate:
        await asyncio.to_thread(old, gate)
        assert await gate.refusals() == ["tunnel_handshake"]


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


QUESTIONS = {
    "empty": framed(b""),
    "huge": (2**32 - 1).to_bytes(4, "big"),
    "too large": framed(b"x" * (QUESTION_MAX + 1)),
    "no JSON": framed(b"ticket please"),
    "no UTF-8": framed(b'"\xff"'),
    "deep": framed(b"[" * QUESTION_MAX),
    "a number": framed(b"1" * 2000),
    "a list": framed(b"[]"),
    "another version": framed(b'{"v":2,"ticket":"jgt_","host":"echo"}'),
    "no version": framed(b'{"ticket":"jgt_","host":"echo"}'),
    "no ticket": framed(b'{"v":1,"host":"echo"}'),
    "a ticket that is no text": framed(b'{"v":1,"ticket":["jgt_"],"host":"echo"}'),
    "a host that is no text": framed(b'{"v":1,"ticket":"jgt_","host":null}'),
    "a long host": framed(json.dumps({"v": 1, "ticket": "jgt_", "host": "h" * 65}).encode()),
    "a long ticket": framed(json.dumps({"v": 1, "ticket": "t" * 513, "host": "h"}).encode()),
}


async def test_malformed_questions_are_answered_and_refused(world: World, tmp_path: Path):
    def asked(gate: Gate, question: bytes) -> dict[str, Any]:
        with contextlib.closing(tunnel.shaken(gate)) as tls:
            tls.sendall(question)
            return tunnel.verdict(tls)

    async with echo_gate(world, tmp_path) as gate:
        for name, question in QUESTIONS.items():
            said = await asyncio.to_thread(asked, gate, question)
            assert (said["ok"], said["code"]) == (False, "tunnel_protocol"), name
        assert await gate.refusals() == ["tunnel_protocol"]
        assert gate.meters.refusals["tunnel_protocol"] == len(QUESTIONS)


@pytest.mark.parametrize("part", [b"", b"\0", framed(b"x" * 100)[:50]], ids=["silent", "a byte", "half"])
async def test_who_asks_nothing_is_told_so(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: bytes):
    monkeypatch.setattr(tunnels, "HANDSHAKE_S", SOON_S)

    def dawdle(gate: Gate) -> dict[str, Any]:
        with contextlib.closing(tunnel.shaken(gate)) as tls:
            if part:
                tls.sendall(part)
            return tunnel.verdict(tls)

    async with echo_gate(world, tmp_path) as gate:
        said = await asyncio.to_thread(dawdle, gate)
        assert (said["code"], said["detail"]) == ("tunnel_handshake", "it stopped in the middle of the handshake")


def never_unwraps(gate: Gate, ticket: str) -> str:
    with contextlib.closing(tunnel.shaken(gate)) as tls:
        said = tunnel.ask(tls, ticket, "echo")
        assert tls.recv(1) == b"", "the gateway's own end of TLS"
        with contextlib.suppress(OSError):
            socket.socket.recv(tls, 1)
        return str(said["session"])


def talks_on(gate: Gate, ticket: str) -> str:
    with contextlib.closing(tunnel.shaken(gate)) as tls:
        said = tunnel.ask(tls, ticket, "echo")
        with contextlib.suppress(OSError):
            tls.sendall(b"more, inside TLS")
            tunnel.rest(tls)
        return str(said["session"])


def hangs_up(gate: Gate, ticket: str) -> str:
    with contextlib.closing(tunnel.shaken(gate)) as tls:
        return str(tunnel.ask(tls, ticket, "echo")["session"])


@pytest.mark.parametrize("client", [never_unwraps, talks_on, hangs_up])
async def test_who_does_not_end_tls_is_not_carried(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Callable[[Gate, str], str]
):
    monkeypatch.setattr(tunnels, "ANSWER_S", SOON_S)
    async with echo_gate(world, tmp_path) as gate:
        session = await asyncio.to_thread(client, gate, await gate.ticket("echo"))
        ends = {"the client's connection broke"}
        if client is hangs_up:  # before or after the gateway has ended TLS: then it is an end like others
            ends.add("the client closed it")
        assert await gate.ended(session) in ends
        await works(gate)


async def test_a_crowd_from_one_address_does_not_keep_others_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Beyond its share an address loses its own oldest connections; others lose none."""
    monkeypatch.setattr(listen, "PER_ADDRESS_MAX", 30)
    async with echo_gate(world, tmp_path) as gate:

        def crowd() -> tuple[list[socket.socket], socket.socket]:
            quiet = tunnel.dialled(gate, source="127.0.0.9")
            return [tunnel.dialled(gate, source="127.0.0.2") for _ in range(1000)], quiet

        connections, quiet = await asyncio.to_thread(crowd)
        await works(gate)

        def hung_up() -> int:
            for connection in connections:
                connection.setblocking(False)
            gone = 0
            for connection in connections:
                with contextlib.suppress(BlockingIOError):
                    gone += connection.recv(1) == b""
            quiet.sendall(b"GET ")
            assert quiet.recv(100) == b"127.0.0.9"
            for connection in (*connections, quiet):
                connection.close()
            return gone

        assert await asyncio.to_thread(hung_up) == 970


async def test_a_grant_has_only_so_many_sessions(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jitgate.sessions.admit.SESSIONS_PER_GRANT", 3)
    async with echo_gate(world, tmp_path) as gate:
        ticket = await gate.ticket("echo")
        ways = [await asyncio.to_thread(tunnel.opened, gate, ticket, "echo") for _ in range(3)]
        said = await asyncio.to_thread(tunnel.refused, gate, ticket, "echo")
        assert (said["code"], said["detail"]) == ("too_many", "the grant has 3 open sessions")
        ways[0].socket.close()
        await gate.ended(ways[0].session)
        (await asyncio.to_thread(tunnel.opened, gate, ticket, "echo")).socket.close()
        for way in ways:
            way.socket.close()


async def test_a_stolen_ticket_does_not_use_up_what_its_owner_may_do(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rates, "BURST", 3)
    async with echo_gate(world, tmp_path) as gate:
        alice = await world.enter("alice", "127.0.0.1")
        ticket = await gate.ticket("echo", alice)  # two acts
        for _ in range(3):
            (await asyncio.to_thread(tunnel.opened, gate, ticket, "echo")).socket.close()
        said = await asyncio.to_thread(tunnel.refused, gate, ticket, "echo")
        assert said["code"] == "too_many"
        assert (await alice.certificate("echo")).status == 201


async def test_the_gateway_has_only_so_many_sessions(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tunnels, "SESSIONS_MAX", 1)
    async with echo_gate(world, tmp_path) as gate:
        ticket = await gate.ticket("echo")
        way = await asyncio.to_thread(tunnel.opened, gate, ticket, "echo")
        said = await asyncio.to_thread(tunnel.refused, gate, ticket, "echo")
        assert (said["code"], said["detail"]) == ("too_many", "the gateway has as many sessions as it takes")
        way.socket.close()


async def test_while_the_database_is_away_nobody_is_let_through_and_in_the_end_nobody_stays(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tunnels, "CLOSE_AGAIN_S", 0.05)
    async with echo_gate(world, tmp_path) as gate:
        ticket = await gate.ticket("echo")
        way = await asyncio.to_thread(tunnel.opened, gate, ticket, "echo")

        async def away(*_: object) -> None:
            raise Unreachable("the database is away", "look at the disk")

        with monkeypatch.context() as broken:
            for method in ("read", "write", "recall"):
                broken.setattr(world.store, method, away)
            said = await asyncio.to_thread(tunnel.refused, gate, ticket, "echo")
            assert (said["code"], said["detail"]) == ("unreachable", "the database is away")
            way.socket.sendall(b"x")
            assert await asyncio.to_thread(tunnel.exactly, way.socket, 7) == b"hello\nx", "those who are in stay"
            broken.setattr(tunnels, "BLIND_S", 0.1)
            assert await asyncio.to_thread(tunnel.rest, way.socket) == b""
        assert await gate.ended(way.session) == "the gateway could not ask the database for too long"
        way.socket.close()


async def test_a_client_that_speaks_ssh_is_told_what_to_use(world: World, tmp_path: Path):
    async with echo_gate(world, tmp_path) as gate:
        said = await asyncio.to_thread(after, gate, b"SSH-2.0-OpenSSH_9.2\r\n" + b"\0" * 1000)
        assert said.startswith(b"SSH-2.0-jitgate\r\n")
        assert b"by jitctl only" in said


async def test_openssh_shows_what_it_is_told(programs: object, world: World, tmp_path: Path):
    assert programs
    async with echo_gate(world, tmp_path) as gate:
        command = ["ssh", "-F", "none", "-p", str(gate.port), "-o", "BatchMode=yes", "127.0.0.1", "true"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert done.returncode == 255
        assert "this port takes SSH by jitctl only: jitctl login URL" in done.stderr
