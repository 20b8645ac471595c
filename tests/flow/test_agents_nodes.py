"""Two gateways on one PostgreSQL: an agent at either is told of what was taken away at the other."""

import time
from collections.abc import Callable, Iterator

import pytest
from tests import tunnel
from tests.agents import come, eventually, joined, row, told_of_a_revocation
from tests.client import Connection
from tests.nodes import signer_at, two_nodes
from tests.postgres import Postgres
from tests.service import Service


@pytest.fixture
def gates(install: Callable[..., Service], postgres: Postgres) -> Iterator[tuple[Service, Service]]:
    with two_nodes(install, postgres, tls=True) as both:
        yield both


def at(node: Service, known: Connection) -> Connection:
    there = tunnel.connect(node)
    there.signer = signer_at(node, known.signer)
    return there


def test_an_agent_is_told_by_its_own_node_of_what_was_taken_away_at_the_other(gates: tuple[Service, Service]):
    first, second = gates
    olga = tunnel.enter(first, "olga", admin=True)
    agent = joined(olga, "web9")
    come(agent, second)
    assert agent.bundle
    before = agent.bundle.krl
    began = time.monotonic()
    told_of_a_revocation(agent, olga)
    assert time.monotonic() - began < 5
    assert agent.bundle.krl != before
    assert eventually(lambda: bool(row(olga, agent)["agent"]["current"]))
    assert row(at(second, olga), agent)["agent"]["current"]
    agent.close()


def test_an_agent_that_moves_is_where_it_is_now(gates: tuple[Service, Service]):
    first, second = gates
    olga = tunnel.enter(first, "olga", admin=True)
    agent = joined(olga, "web9")
    come(agent, first)
    assert eventually(lambda: bool(row(olga, agent)["agent"]["connected"]))
    older, agent.tls = agent.tls, None
    come(agent, second)  # both at once, as agents with two gateways are
    node = row(olga, agent)["agent"]["node"]
    assert eventually(lambda: row(olga, agent)["agent"]["node"] != node or node != "")
    assert older
    older.close()
    time.sleep(0.5)
    assert row(olga, agent)["agent"]["connected"]  # the first's word of its end is not the second's
    told_of_a_revocation(agent, olga)
    agent.close()
    assert eventually(lambda: not row(olga, agent)["agent"]["connected"])


def test_when_a_node_dies_its_agents_go_on_at_the_other(gates: tuple[Service, Service]):
    first, second = gates
    olga = tunnel.enter(first, "olga", admin=True)
    agent = joined(olga, "web9")
    come(agent, second)
    first.kill()
    there = at(second, olga)
    told_of_a_revocation(agent, there)
    assert eventually(lambda: bool(row(there, agent)["agent"]["current"]))
    agent.close()
