"""Two gateways on one PostgreSQL: a session ends wherever the word for it was given; a silent node's are closed."""

import time
from collections.abc import Callable, Iterator

import pytest
from tests import tunnel
from tests.client import Connection
from tests.flow.test_tunnel import closed, ended
from tests.nodes import signer_at, two_nodes
from tests.postgres import Postgres
from tests.service import Service


@pytest.fixture
def gates(install: Callable[..., Service], postgres: Postgres) -> Iterator[tuple[Service, Service]]:
    """Each takes what the other gives out."""
    with tunnel.host(tunnel.echo) as port, two_nodes(install, postgres, port=port, tls=True) as both:
        yield both


def at(node: Service, known: Connection) -> Connection:
    there = tunnel.connect(node)
    there.signer = signer_at(node, known.signer)
    return there


def test_a_ticket_of_one_node_opens_at_the_other_and_ends_by_either(gates: tuple[Service, Service]):
    first, second = gates
    alice, olga = tunnel.enter(first, "alice", "engineers"), tunnel.enter(first, "olga", admin=True)
    ticket = tunnel.ticket_of(alice)
    ways = [tunnel.opened(node, ticket) for node in gates for _ in range(2)]
    assert len({row["node"] for row in alice.get("/v1/sessions").json["sessions"]}) == 2
    assert alice.post(f"/v1/sessions/{ways[2].session}/end").status == 200, "it runs at the second"
    assert at(second, alice).post(f"/v1/sessions/{ways[0].session}/end").status == 200, "it runs at the first"
    for way in (ways[2], ways[0]):
        with way.socket as connection:
            assert closed(connection)
        assert ended(olga, way.session)["end_reason"] == "it was killed"
    second.act("user disable", name="alice")
    for way in (ways[1], ways[3]):
        with way.socket as connection:
            assert closed(connection)
        assert ended(olga, way.session)["end_reason"] == "its person was disabled"


def test_what_is_told_late_is_found_by_asking(gates: tuple[Service, Service], postgres: Postgres):
    """A node whose word of changes is lost still looks for itself: no notice is sent here at all."""
    first, second = gates
    alice, olga = tunnel.enter(first, "alice", "engineers"), tunnel.enter(first, "olga", admin=True)
    way = tunnel.opened(second, tunnel.ticket_of(alice))
    name = first.settings.database.partition("@/")[2].partition("?")[0]
    postgres.run("UPDATE session SET kill_at = 1", name)
    began = time.monotonic()
    with way.socket as connection:
        assert closed(connection), f"after {time.monotonic() - began:.1f} s"
    assert ended(olga, way.session)["end_reason"] == "it was killed"


def test_a_node_that_is_killed_leaves_no_session_open_when_it_comes_back(gates: tuple[Service, Service]):
    first, second = gates
    alice, olga = tunnel.enter(first, "alice", "engineers"), tunnel.enter(first, "olga", admin=True)
    way = tunnel.opened(second, tunnel.ticket_of(alice))
    second.kill()
    assert closed(way.socket)
    way.socket.close()
    assert [row["id"] for row in alice.get("/v1/sessions").json["sessions"]] == [way.session], "nobody can know yet"
    second.start()
    assert ended(olga, way.session)["end_reason"] == "the gateway crashed"
