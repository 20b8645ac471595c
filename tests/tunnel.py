"""A client of the tunnel for tests, and hosts that are no sshd: all over real sockets."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tests.client import Answer, Call, Connection, Signer
from tests.service import ROLES, Nursery, Service, new_service

from jitgate.app.settings import Settings
from jitgate.app.tls import authority_pem

ALPN = "jitgate-tunnel/1"
PATIENCE_S = 20.0


class Gate(Protocol):
    """Where a tunnel is dialled, and whose TLS authority is trusted there."""

    @property
    def port(self) -> int: ...
    @property
    def settings(self) -> Settings: ...


class Unhurried(Connection):
    """A person who waits longer between two requests than a connection is kept, as these tests do."""

    def send(self, call: Call) -> Answer:
        try:
            return super().send(call)
        finally:
            self.close()


@contextmanager
def gateway(nursery: Nursery, *roles: bytes) -> Iterator[Service]:
    """A new service with TLS and its gateway, which runs, with these roles in force, or `ROLES`."""
    with new_service(nursery, tls=True) as started:
        started.start()
        started.apply(*(roles or (ROLES,)))
        yield started


def connect(service: Service) -> Connection:
    """A person at a service with TLS: what they send goes over the same loopback port in clear."""
    return Unhurried(f"http://127.0.0.1:{service.port}", Signer(service.url))


def enter(service: Service, name: str, *groups: str, admin: bool = False) -> Connection:
    """A new person, signed in."""
    connection = connect(service)
    answer = connection.sign_in(name, service.add_person(name, *groups, admin=admin))
    assert answer.status == 201, answer
    return connection


def granted(person: Connection, host: str = "web1", **more: Any) -> str:
    answer = person.post("/v1/grants", {"host": host, **more})
    assert answer.status in (200, 201), answer
    return str(answer.json["grant"]["id"])


def certified(person: Connection, grant: str, host: str = "web1") -> dict[str, Any]:
    """The whole answer to the request for a certificate."""
    answer = person.post("/v1/certificates", {"grant": grant, "host": host})
    assert answer.status == 201, answer
    found: dict[str, Any] = answer.json
    return found


def ticket_of(person: Connection, host: str = "web1", **more: Any) -> str:
    return str(certified(person, granted(person, host, **more), host)["tunnel"]["ticket"])


def trusting(service: Gate, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority_pem(service.settings).decode())
    context.set_alpn_protocols(list(protocols or (ALPN,)))
    return context


def dialled(service: Gate, port: int = 0, source: str = "") -> socket.socket:
    where = ("127.0.0.1", port or service.port)
    connection = socket.create_connection(where, timeout=PATIENCE_S, source_address=(source, 0) if source else None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def shaken(service: Gate, connection: socket.socket | None = None) -> ssl.SSLSocket:
    """TLS with the tunnel's protocol, and nothing said yet."""
    return trusting(service).wrap_socket(connection or dialled(service), server_hostname="127.0.0.1")


def ask(tls: ssl.SSLSocket, ticket: str, host: str = "web1") -> dict[str, Any]:
    """The verdict."""
    question = json.dumps({"v": 1, "ticket": ticket, "host": host}).encode()
    tls.sendall(len(question).to_bytes(4, "big") + question)
    return verdict(tls)


def verdict(tls: ssl.SSLSocket) -> dict[str, Any]:
    size = int.from_bytes(exactly(tls, 4), "big")
    found: dict[str, Any] = json.loads(exactly(tls, size))
    return found


def exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        assert more, f"closed after {len(found)} of {count} bytes"
        found += more
    return found


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, one way or the other."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            found += more
    return found


@dataclass(slots=True)
class Tunnel:
    """Carried bytes: what is written here, the host reads."""

    socket: socket.socket
    session: str
    ends_at: str


def opened(service: Gate, ticket: str, host: str = "web1", connection: socket.socket | None = None) -> Tunnel:
    tls = shaken(service, connection)
    said = ask(tls, ticket, host)
    assert said["ok"], said
    bare = tls.unwrap()
    bare.settimeout(PATIENCE_S)
    return Tunnel(bare, said["session"], said["ends_at"])


def refused(service: Gate, ticket: str, host: str = "web1") -> dict[str, Any]:
    """The verdict, which has to be no."""
    with contextlib.closing(shaken(service)) as tls:
        said = ask(tls, ticket, host)
    assert said["ok"] is False, said
    assert said["detail"]
    return said


@contextmanager
def host(serve: Callable[[socket.socket], None], address: str = "127.0.0.1") -> Iterator[int]:
    """A port on which each connection is served by a thread; what it raises is suppressed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        threads: list[threading.Thread] = []

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.settimeout(PATIENCE_S)
                    threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join(PATIENCE_S)


def echo(connection: socket.socket) -> None:
    """A host that speaks first, as sshd does, and says everything again."""
    connection.sendall(b"hello\n")
    while data := connection.recv(65536):
        connection.sendall(data)
