"""Behind a proxy that says where connections come from: who speaks, and who waits, is the client."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

import pytest

from jitgate.gateway import listen as listening
from jitgate.gateway.listen import Carries, listen

pytestmark = pytest.mark.enable_socket  # a listener on loopback is what is tested


@contextlib.asynccontextmanager
async def proxied_port() -> AsyncIterator[int]:
    """A listener whose clients all come by a proxy, and which answers with their address."""

    async def tell(connection: socket.socket, source: str) -> None:
        with contextlib.closing(connection):
            loop = asyncio.get_running_loop()
            await loop.sock_recv(connection, 100)
            await loop.sock_sendall(connection, source.encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        task = asyncio.create_task(listen(listener, {Carries.HTTP: tell}, (ip_network("127.0.0.0/8"),)))
        try:
            yield listener.getsockname()[1]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def dialled(crowd: contextlib.AsyncExitStack, at: int, address: str, data: bytes = b"") -> asyncio.StreamReader:
    """A connection from there, as the proxy passes it on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", at)
    crowd.callback(writer.close)
    source = ip_address(address)
    family, here = (b"\x11\x00\x0c", "127.0.0.1") if source.version == 4 else (b"\x21\x00\x24", "::1")
    header = b"\r\n\r\n\x00\r\nQUIT\n\x21" + family + source.packed + ip_address(here).packed + bytes([0, 9, 0, 9])
    writer.write(header + data)
    return reader


async def test_the_address_is_the_one_in_the_header():
    async with proxied_port() as at, contextlib.AsyncExitStack() as crowd:
        reader = await dialled(crowd, at, "192.0.2.7", b"GET /")
        assert await asyncio.wait_for(reader.read(), 10) == b"192.0.2.7"


@pytest.mark.parametrize("client", ["192.0.2.8", "2001:db8::{}"])
async def test_one_clients_silent_connections_push_out_its_own(monkeypatch: pytest.MonkeyPatch, client: str):
    """Not those of others behind the same proxy. Who has an IPv6 /64 has all its addresses."""
    monkeypatch.setattr(listening, "PER_ADDRESS_MAX", 10)
    async with proxied_port() as at, contextlib.AsyncExitStack() as crowd:
        other = await dialled(crowd, at, "192.0.2.7")
        many = [await dialled(crowd, at, client.format(number + 1)) for number in range(30)]
        gone = [await asyncio.wait_for(reader.read(), 10) for reader in many[:20]]
        assert gone == [b""] * 20
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.read(), 0.05)
