"""The tunnel of the real service: from a ticket to carried bytes, and to every end that a session may have."""

import socket
from collections.abc import Callable, Iterator

import pytest
from tests import tunnel
from tests.client import Connection, somebody
from tests.service import ROLES, Nursery, Service, new_service


@pytest.fixture(scope="module")
def gate(nursery: Nursery) -> Iterator[Service]:
    """A service with TLS and its gateway, and a host `web1` that says everything again."""
    with new_service(nursery, tls=True) as started, tunnel.host(tunnel.echo) as port:
        started.start()
        started.apply(ROLES)
        started.add_host("web1", port=port)
        yield started
        assert started.stop() == 0, started.words()


@pytest.fixture
def alice(gate: Service) -> Connection:
    return tunnel.enter(gate, somebody(), "engineers")


def test_bytes_are_carried_both_ways(gate: Service, alice: Connection):
    way = tunnel.opened(gate, tunnel.ticket_of(alice))
    with way.socket as connection:
        assert tunnel.exactly(connection, 6) == b"hello\n"
        connection.sendall(b"x" * 100_000)
        assert tunnel.exactly(connection, 100_000) == b"x" * 100_000
        connection.shutdown(socket.SHUT_WR)
        assert tunnel.rest(connection) == b""
