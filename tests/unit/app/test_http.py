"""HTTP on a hostile network: heads and bodies bounded in size and time, and a stop that finishes what runs."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from socket import create_connection, create_server
from typing import Any

import pytest
import uvloop

from jitgate.app import http
from jitgate.app.http import HttpServer
from jitgate.app.settings import Settings
from jitgate.app.tls import authority_pem, make_authority, server_context
from jitgate.core.clock import system_clock
from jitgate.gateway import listen as gateway
from jitgate.gateway.listen import Carries, listen

pytestmark = pytest.mark.enable_socket  # a server on loopback is what is tested

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Test = Callable[["Site"], Coroutine[Any, Any, None]]


class Site:
    """A server whose application answers with what it got."""

    def __init__(self) -> None:
        self.port = 0
        self.calls: list[str] = []
        self.held: asyncio.Event | None = None
        self.answer = b""  # instead of what it got
        self.server: HttpServer
        self.stopped = asyncio.Event()

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append(f"{scope['method']} {scope['path']} {scope['client'][0]}")
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size, more = size + len(message["body"]), message.get("more_body", False)
        if self.held:
            await self.held.wait()
        body = self.answer or f"{scope['path']} {size} {scope['client'][0]}".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @contextlib.asynccontextmanager
    async def dialled(self, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1") -> AsyncIterator["Peer"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, local_addr=(source, 0))
        try:
            yield Peer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def sent(self, *parts: bytes) -> bytes:
        """All that comes back until the server closes."""
        async with self.dialled() as peer:
            for part in parts:
                await peer.say(part)
            return await peer.rest()


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        """Returns once the server has had a chance to read it."""
        with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop's word for a connection that is closed
            self.writer.write(data)
            await self.writer.drain()
            await asyncio.sleep(0.01)

    async def rest(self) -> bytes:
        found = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while part := await self.reader.read(65536):
                    found += part
        return found

    async def answer(self) -> bytes:
        """One response's body."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            return await self.reader.readexactly(length)


def serving(test: Test, tls: ssl.SSLContext | None = None) -> None:
    async def run() -> None:
        site = Site()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await site.application(scope, receive, send)

        site.server = HttpServer(application, tls)
        await site.server.start()
        with create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            site.port = listener.getsockname()[1]
            handlers = {Carries.HTTP: site.server.take} | ({Carries.TLS: site.server.take_tls} if tls else {})
            listening = asyncio.create_task(listen(listener, handlers))
            clock = asyncio.create_task(site.server.run())
            clock.add_done_callback(lambda _: site.stopped.set())
            try:
                await test(site)
            finally:
                listening.cancel()
                site.server.stop()
                if site.held:
                    site.held.set()
                await clock

    uvloop.run(run())


def test_what_is_within_the_bounds_is_served():
    async def test(site: Site) -> None:
        body = b"POST /p HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000
        async with site.dialled() as peer:
            await peer.say(GET + GET + body)  # pipelined, the body in one piece with its head
            assert [await peer.answer() for _ in range(3)] == [b"/ 0 127.0.0.1"] * 2 + [b"/p 60000 127.0.0.1"]
            await peer.say(b"GET /a HTTP/1.1\r\nX: " + b"x" * 30_000 + b"\r\n\r\n")
            assert await peer.answer() == b"/a 0 127.0.0.1"
            for letter in GET:
                await peer.say(bytes([letter]))
            assert await peer.answer() == b"/ 0 127.0.0.1"

    serving(test)


HEADS: dict[str, tuple[bytes, ...]] = {
    "one line": (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n",),
    "one header": (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",),
    "one header's name": (b"GET / HTTP/1.1\r\n" + b"x" * 40_000 + b": x\r\n\r\n",),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 9_000 + b"\r\n",),
    "many short headers": (b"GET / HTTP/1.1\r\n" + b"X:\r\n" * 9_000 + b"\r\n",),
    "a line that never ends": (b"GET /", *[b"x" * 4096] * 20),
    "a header that never ends": (b"GET / HTTP/1.1\r\nX: ", *[b"x" * 4096] * 20),
    "headers that never end": (b"GET / HTTP/1.1\r\n", *[b"X: x\r\n" * 700] * 20),
    "after another request": (GET, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n"),
    "in trailers": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"X: x\r\n" * 9_000 + b"\r\n",
    ),
}


@pytest.mark.parametrize("parts", HEADS.values(), ids=HEADS)
def test_a_head_that_is_too_long_ends_the_connection_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...]
):
    monkeypatch.setattr(http, "REQUEST_S", 120.0)  # not by the clock

    async def test(site: Site) -> None:
        answers = await site.sent(*parts)
        assert answers.count(b"HTTP/1.1 200") == parts[0].startswith(GET)
        assert len(site.calls) == (parts[0].startswith((GET, b"POST")))  # trailers come after the call

    serving(test)


SLOW: dict[str, tuple[bytes, ...]] = {
    "silence": (),
    "a line break": (b"\r\n",),
    "half a head": (b"GET / HTTP/1.1\r\nHost",),
    "a head and no body": (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n",),
    "half a body": (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc",),
    "a chunk and no next": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",),
    "a promise": (b"POST / HTTP/1.1\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",),
    "silence after a request": (GET,),
    "a line break after a request": (GET, b"\r\n"),
    "half a head after a request": (GET, b"GET / HT"),
    "half a body after a request": (GET, b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"),
}


@pytest.mark.parametrize("parts", SLOW.values(), ids=SLOW)
def test_nobody_is_waited_for_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...]):
    monkeypatch.setattr(http, "REQUEST_S", 0.4)
    monkeypatch.setattr(http, "KEEP_ALIVE_S", 0.4)
    monkeypatch.setattr(gateway, "FIRST_BYTES_S", 0.2)

    async def test(site: Site) -> None:
        async with site.dialled() as peer:
            if parts:
                await peer.say(parts[0])
            if parts[:1] == (GET,):
                assert await peer.answer() == b"/ 0 127.0.0.1"
            for part in parts[1:]:
                await peer.say(part)
            assert b"200 OK" not in await peer.rest()  # and it does end

    serving(test)


def test_a_drip_does_not_move_the_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "REQUEST_S", 0.3)

    async def test(site: Site) -> None:
        async with site.dialled() as peer:
            await peer.say(b"POST / HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n")
            async with asyncio.timeout(30):
                while not (peer.reader.at_eof() or peer.reader.exception()):  # an end, or a reset by what it crossed
                    await peer.say(b"x")

    serving(test)


def test_requests_ahead_of_their_answers_are_few():
    async def test(site: Site) -> None:
        site.held = asyncio.Event()
        async with site.dialled() as peer:
            await peer.say(GET * (1 + http.AHEAD_MAX))
            site.held.set()
            assert [await peer.answer() for _ in range(1 + http.AHEAD_MAX)] == [b"/ 0 127.0.0.1"] * (1 + http.AHEAD_MAX)
            site.held.clear()
            site.calls.clear()
            await peer.say(GET * (2 + http.AHEAD_MAX))
            assert b" 400 " in await peer.rest()
            assert len(site.calls) == 1

    serving(test)


def test_one_address_does_not_use_up_the_connections_of_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "PER_ADDRESS_MAX", 2)

    async def test(site: Site) -> None:
        async with site.dialled() as one:
            await one.say(GET)
            assert await one.answer() == b"/ 0 127.0.0.1"
            async with site.dialled() as two:
                await two.say(GET)
                assert await two.answer() == b"/ 0 127.0.0.1"
                assert await site.sent(GET) == b""
                async with site.dialled(source="127.0.0.2") as other:
                    await other.say(GET)
                    assert await other.answer() == b"/ 0 127.0.0.2"
        async with asyncio.timeout(20):
            while site.server._peers:  # noqa: ASYNC110  # the other side of a socket
                await asyncio.sleep(0.001)
        assert b"/ 0 127.0.0.1" in await site.sent(GET.replace(b"Host", b"Connection: close\r\nHost"))  # room again

    serving(test)


def test_who_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "READ_S", 0.2)

    async def test(site: Site) -> None:
        site.answer = b"x" * 20_000_000  # more than the system keeps by itself
        async with site.dialled() as peer:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport has it
            await peer.say(GET)
            async with asyncio.timeout(20):
                while site.server._server.server_state.connections:  # noqa: ASYNC110  # the other side of a socket
                    await asyncio.sleep(0.01)

    serving(test)


GARBAGE: dict[str, bytes] = {
    "no HTTP": b"HELLO\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "a null": b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "PROXY": b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 443\r\n" + GET,
    "no path": b"GET  HTTP/1.1\r\n\r\n",
    "a path beyond ASCII": b"GET /\xff HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_request_is_refused_and_the_next_client_is_served(data: bytes):
    async def test(site: Site) -> None:
        answers = await site.sent(data)
        assert b" 200 " not in answers
        assert site.calls == []
        assert b" 200 " in await site.sent(GET.replace(b"Host", b"Connection: close\r\nHost"))

    serving(test)


def test_no_header_says_who_the_client_is():
    async def test(site: Site) -> None:
        spoofed = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nForwarded: for=203.0.113.9\r\n\r\n"
        async with site.dialled() as peer:
            await peer.say(GET[:-2] + spoofed)
            assert await peer.answer() == b"/ 0 127.0.0.1"

    serving(test)


def test_an_upgrade_is_not_one():
    async def test(site: Site) -> None:
        upgrade = (
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with site.dialled() as peer:
            await peer.say(GET[:-2] + upgrade)
            assert await peer.answer() == b"/ 0 127.0.0.1"

    serving(test)


def test_a_stop_finishes_what_runs_and_hangs_up_on_the_others():
    async def test(site: Site) -> None:
        async with site.dialled() as busy, site.dialled() as idle, site.dialled() as half:
            await idle.say(GET)
            assert await idle.answer() == b"/ 0 127.0.0.1"
            site.calls.clear()
            site.held = asyncio.Event()
            await half.say(b"GET / HTTP/1.1\r\n")
            await busy.say(GET)
            while not site.calls:  # noqa: ASYNC110  # the other side of a socket
                await asyncio.sleep(0.001)
            site.server.stop()
            assert await half.rest() == b""
            assert await idle.rest() == b""
            site.held.set()
            assert await busy.answer() == b"/ 0 127.0.0.1"
            assert await busy.rest() == b""

    serving(test)


def test_a_request_that_never_ends_does_not_hold_the_stop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "GRACE_S", 0.2)

    async def test(site: Site) -> None:
        site.held = asyncio.Event()
        async with site.dialled() as busy:
            await busy.say(GET)
            while not site.calls:  # noqa: ASYNC110  # the other side of a socket
                await asyncio.sleep(0.001)
            site.server.stop()
            assert b" 200 " not in await busy.rest()

    serving(test)


# --- TLS ---


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's context and a client's that trusts its authority."""
    settings = Settings(state=Path(tmp_path_factory.mktemp("tls")), url="https://127.0.0.1:8443")
    make_authority(settings, system_clock())
    server = server_context(settings, system_clock())
    client = ssl.create_default_context(cadata=authority_pem(settings).decode())
    return server, client


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def test_https_is_served_to_who_trusts_the_authority(tls: Contexts):
    server, client = tls

    async def test(site: Site) -> None:
        async with site.dialled(client) as peer:
            await peer.say(GET)
            assert await peer.answer() == b"/ 0 127.0.0.1"
            assert peer.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError):
            async with site.dialled(ssl.create_default_context()):
                pass

    serving(test, server)


def test_old_tls_is_not_spoken(tls: Contexts):
    server, _ = tls
    assert server.minimum_version >= ssl.TLSVersion.TLSv1_2
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLS"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")

    async def test(site: Site) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with site.dialled(old):
                pass

    serving(test, server)


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize(
    "parts", [(HELLO,), (b"\x16",), (HELLO, b"x" * 3000), (b"\x16\x03\x01\xff\xff" + b"x" * 70_000,)]
)
def test_a_handshake_that_does_not_end_is_ended(
    tls: Contexts, monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
):
    server, client = tls
    monkeypatch.setattr(http, "TLS_S", 0.2)

    async def test(site: Site) -> None:
        assert b"HTTP" not in await site.sent(*parts)
        async with site.dialled(client) as peer:
            await peer.say(GET)
            assert await peer.answer() == b"/ 0 127.0.0.1"

    serving(test, server)
    assert not caplog.records


def test_a_stop_does_not_wait_for_who_does_not_end_their_tls(tls: Contexts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "FAREWELL_S", 0.1)
    server, client = tls

    async def test(site: Site) -> None:
        loop, raw = asyncio.get_running_loop(), create_connection(("127.0.0.1", site.port))
        with await loop.run_in_executor(None, partial(client.wrap_socket, raw, server_hostname="127.0.0.1")) as idle:
            await loop.run_in_executor(None, idle.sendall, GET)
            assert await loop.run_in_executor(None, idle.recv, 4096)
            site.server.stop()
            async with asyncio.timeout(http.GRACE_S / 2):
                await site.stopped.wait()

    serving(test, server)


def test_a_stop_in_the_middle_of_handshakes(tls: Contexts, caplog: pytest.LogCaptureFixture):
    server, _ = tls

    async def test(site: Site) -> None:
        async with site.dialled() as one, site.dialled() as other:
            await one.say(HELLO)
            await other.say(b"\x16")
            site.server.stop()

    serving(test, server)
    assert not caplog.records
