"""Tickets of two realms at one gateway: each opens its own realm's host, though both are called web1."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from tests import tunnel
from tests.client import Connection
from tests.service import ROLES, Nursery, Service, new_service

from jitgate.ssh.private import generate_ed25519

REALMS = ("default", "eu")


def say(word: bytes, connection: object) -> None:
    connection.sendall(word)  # type: ignore[attr-defined]  # a socket


@pytest.fixture
def gate(nursery: Nursery) -> Iterator[Service]:
    """The web1 of each realm says its realm's name, as long as it is there."""
    with ExitStack() as stack:
        started = stack.enter_context(new_service(nursery, tls=True))
        started.start()
        assert started.jitgate("realm", "add", "eu").returncode == 0
        started.apply(ROLES, ROLES.replace(b"role: web\n", b"role: web-eu\nrealm: eu\n"))
        for realm in REALMS:
            port = stack.enter_context(tunnel.host(partial(say, realm.encode())))
            line = generate_ed25519().public.line()
            told = {"address": "127.0.0.1", "logins": ["ubuntu"], "labels": {"tier": "web"}, "host_key": line}
            started.act("host add", name="web1", realm=realm, port=port, **told)
        yield started


@pytest.fixture
def alice(gate: Service) -> Connection:
    return tunnel.enter(gate, "alice", "engineers")


def reached(gate: Service, ticket: str) -> str:
    with tunnel.opened(gate, ticket).socket as connection:
        return tunnel.rest(connection).decode()


def test_a_ticket_opens_the_host_of_its_own_realm(gate: Service, alice: Connection):
    tickets = {realm: tunnel.ticket_of(alice, realm=realm) for realm in REALMS}
    for realm, ticket in tickets.items():
        assert reached(gate, ticket) == realm

    gate.act("host rm", name="web1", realm="default")
    assert tunnel.refused(gate, tickets["default"])["code"] in {"host_gone", "grant_ended"}  # not the other web1
    assert reached(gate, tickets["eu"]) == "eu"

    gate.act("user leave", name="alice", realm="eu", reason="")
    assert tunnel.refused(gate, tickets["eu"])["code"] in {"grant_ended", "left_realm"}
