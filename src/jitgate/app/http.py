"""HTTP on sockets that somebody else accepted: uvicorn's protocol with the limits it does not have."""

import asyncio
import ssl
from collections import Counter
from functools import partial
from socket import IPPROTO_TCP, TCP_USER_TIMEOUT, socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jitgate.identity.throttle import address_subject

HEAD_MAX = 32 * 1024  # bytes of request line and headers; tokens are small here
REQUEST_S = 15.0  # seconds until a request has come whole: it is at most 64 KiB
KEEP_ALIVE_S = 5  # seconds that a connection stays open between two requests
TLS_S = 10.0  # seconds for a handshake
READ_S = 30.0  # seconds that a client may leave an answer unread: nobody is waited for in the other direction either
AHEAD_MAX = 8  # requests that may wait behind one that runs; each costs us a hundred times its bytes
GRACE_S = 10  # seconds that running requests have when the service stops
FAREWELL_S = 2.0  # seconds that a client without a request has then to end its TLS
CONNECTIONS_MAX = 4096
PER_ADDRESS_MAX = 256  # connections of one address, IPv6 by its /64: one machine does not use the others up


class _TooMuchError(Exception):
    """Raised under the parser, which makes a 400 and the connection's end of it."""


class _Joined:
    """A transport that sends with one system call what was written in one turn of the loop: an answer's head and body.

    The first half alone would wake the client up for nothing.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        self.is_closing, self.abort = transport.is_closing, transport.abort

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._written:
            data = b"".join(self._written)
            self._written.clear()
            self._transport.write(data)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which by itself buffers heads of any size and waits for requests for ever."""

    _in_head = True
    _parsed = 0  # bytes of the head (and trailers) that the parser has told of
    _waiting = 0  # bytes that came while the head was not whole: what the parser keeps and does not tell of
    _deadline: asyncio.TimerHandle | None = None
    _address = ""

    def __init__(self, *given: Any, peers: Counter[str], source: str, **named: Any) -> None:  # noqa: ANN401  # the base's own
        super().__init__(*given, **named)
        self._peers = peers
        self._source = source

    @property
    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # it may be

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base does
        super().connection_made(transport)
        self.transport = _Joined(transport, self.loop)  # type: ignore[assignment]  # as much of one as the base uses
        if self.client:  # else it has gone already
            self.client = (self._source, self.client[1])  # who a listed proxy speaks for, not the proxy
            self._address = address_subject(self._source)
        self._peers[self._address] += 1
        if self._peers[self._address] > PER_ADDRESS_MAX:
            transport.abort()
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_come()
        self._peers[self._address] -= 1
        if not self._peers[self._address]:
            del self._peers[self._address]
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        if not self._in_request:  # closed just now: over TLS that waits for the client's own goodbye
            self.loop.call_later(FAREWELL_S, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._in_request:  # the base stops its timer of idleness at any byte
            self._set_deadline()
        super().data_received(data)
        if self._in_head:
            self._waiting += len(data)
            if self._waiting > HEAD_MAX:
                self.transport.close()

    def on_message_begin(self) -> None:
        self._parsed = self._waiting = 0
        self._in_head = True
        self._set_deadline()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)  # a colon, a space, the line's end
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.pipeline) == AHEAD_MAX:
            raise _TooMuchError
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._has_come()
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._parsed += size
        if self._parsed > HEAD_MAX:
            raise _TooMuchError

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self.transport.close)

    def _has_come(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class HttpServer:
    """One ASGI application, served on whatever sockets are handed to `take`."""

    def __init__(self, application: Any, tls: ssl.SSLContext | None) -> None:  # noqa: ANN401  # ASGI's own type is Any
        config = uvicorn.Config(
            application,
            http=BoundedHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody may say who they are by a header
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        config.load()
        self._config = config
        self._server = uvicorn.Server(config)
        self._tls = tls
        self._peers: Counter[str] = Counter()

    async def start(self) -> None:
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[])

    async def run(self) -> None:
        """The server's clock; returns after `stop`."""
        await self._server.main_loop()
        await self._server.shutdown()

    def stop(self) -> None:
        self._server.should_exit = True

    async def take(self, connection: socket, source: str) -> None:
        """Serve plain HTTP on an accepted connection."""
        _bound_unread(connection)
        await asyncio.get_running_loop().connect_accepted_socket(partial(self._protocol, source), connection)

    async def take_tls(self, connection: socket, source: str) -> None:
        """Serve HTTPS on an accepted connection."""
        _bound_unread(connection)
        await asyncio.get_running_loop().connect_accepted_socket(
            partial(self._protocol, source), connection, ssl=self._tls, ssl_handshake_timeout=TLS_S
        )

    def _protocol(self, source: str) -> BoundedHttp:
        state = self._server.server_state
        return BoundedHttp(config=self._config, server_state=state, app_state={}, peers=self._peers, source=source)


def _bound_unread(connection: socket) -> None:
    """Linux ends the connection when what it sent is not taken (tcp(7)); else a client that reads nothing stays."""
    connection.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, int(READ_S * 1000))
