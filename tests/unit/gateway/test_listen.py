"""The one port: told apart by its first bytes, silent and greedy clients bounded, nothing taken from the stream."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from jitgate.gateway import listen as listening
from jitgate.gateway.listen import Carries, Handler, carries, listen

pytestmark = pytest.mark.enable_socket  # a listener on loopback is what is tested

KINDS = {
    b"\x16\x03\x01\x02": Carries.TLS,
    b"\x16": Carries.TLS,
    b"SSH-": Carries.SSH,
    b"GET ": Carries.HTTP,
    b"POST": Carries.HTTP,
    b"PRI ": Carries.HTTP,
    b"": None,
    b"\x00": None,
    b"get ": None,
    b"ssh-": None,
    b"\x80\x2e\x01\x03": None,  # SSLv2
    b"\x15\x03\x01\x00": None,  # a TLS alert
    b"\r\nGET": None,
    b"PROXY"[:4]: Carries.HTTP,  # version 1 of the PROXY protocol is not spoken: HTTP refuses it
    "ÉTÉ".encode("latin-1"): None,
}


@pytest.mark.parametrize(("first", "kind"), KINDS.items(), ids=map(repr, KINDS))
def test_first_bytes_say_what_comes(first: bytes, kind: Carries | None):
    assert carries(first) is kind


@contextlib.asynccontextmanager
async def port(**handlers: Handler) -> AsyncIterator[int]:
    """A listener with these handlers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        task = asyncio.create_task(listen(listener, {Carries(kind): handler for kind, handler in handlers.items()}))
        try:
            yield listener.getsockname()[1]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def echo(connection: socket.socket, _source: str) -> None:
    """A handler: answers with what it can read."""
    loop = asyncio.get_running_loop()
    with contextlib.closing(connection):
        await loop.sock_sendall(connection, b"got " + await loop.sock_recv(connection, 100))


@contextlib.asynccontextmanager
async def dialled(at: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", at)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def sent(at: int, data: bytes) -> bytes:
    """What comes back until the other side closes; b"reset" if it does so rudely."""
    async with dialled(at) as (reader, writer):
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        except ConnectionResetError:
            return b"reset"


async def test_each_kind_goes_to_its_handler_with_every_byte():
    async with port(http=echo, tls=echo, ssh=echo) as at:
        for data in (b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"SSH-2.0-x\r\n"):
            assert await sent(at, data) == b"got " + data


async def test_what_nobody_speaks_is_closed():
    async with port(http=echo) as at:
        for data in (b"\x16\x03\x01", b"SSH-2.0-x\r\n", b"\x00" * 100, b"hello"):
            assert await sent(at, data) in (b"", b"reset")
        assert await sent(at, b"GET /") == b"got GET /"


async def test_who_hangs_up_costs_nothing():
    async with port(http=echo) as at:
        for _ in range(50):
            async with dialled(at):
                pass
        assert await sent(at, b"GET /") == b"got GET /"


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listening, "FIRST_BYTES_S", 0.05)
    async with port(http=echo) as at, dialled(at) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_crowd_of_silent_ones_does_not_keep_others_out(monkeypatch: pytest.MonkeyPatch):
    """Beyond the limit the one that has been silent longest goes, not the one that comes."""
    monkeypatch.setattr(listening, "WAITING_MAX", 20)
    async with port(http=echo) as at, contextlib.AsyncExitStack() as crowd:
        silent = [await crowd.enter_async_context(dialled(at)) for _ in range(60)]
        assert await sent(at, b"GET /") == b"got GET /"
        gone = [await asyncio.wait_for(reader.read(), 10) for reader, _ in silent[:40]]
        assert gone == [b""] * 40
        reader, writer = silent[-1]
        writer.write(b"GET /late")
        assert await asyncio.wait_for(reader.read(), 10) == b"got GET /late"


async def test_a_handler_that_fails_harms_nobody_else(caplog: pytest.LogCaptureFixture):
    async def broken(_connection: socket.socket, _source: str) -> None:
        raise ZeroDivisionError

    async def reset(_connection: socket.socket, _source: str) -> None:
        raise ConnectionResetError

    async with port(http=echo, ssh=broken, tls=reset) as at:
        for data in (b"SSH-2.0-x\r\n", b"\x16\x03\x01"):
            assert await sent(at, data) in (b"", b"reset")
        assert await sent(at, b"GET /") == b"got GET /"
    assert [record.message for record in caplog.records if record.exc_info] == ["a connection crashed"]


async def test_no_descriptor_left_is_waited_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(listening, "ACCEPT_PAUSE_S", 0.001)
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(24, "Too many open files")] * 3

    async def scarce(listener: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", scarce)
    async with port(http=echo) as at:
        assert await sent(at, b"GET /") == b"got GET /"
    assert "Too many open files" in caplog.text


async def test_stopping_hangs_up_on_those_that_wait():
    async with contextlib.AsyncExitStack() as stack:
        async with port(http=echo) as at:
            reader, _ = await stack.enter_async_context(dialled(at))
            assert await sent(at, b"GET /") == b"got GET /"  # so the one that dialled before was accepted too
        assert await asyncio.wait_for(reader.read(), 10) == b""
