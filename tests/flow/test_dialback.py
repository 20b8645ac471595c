"""Sessions to hosts that their agents reach: the agent dials back, and nobody else can."""

import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from tests.agents import FakeAgent, at_work, joined
from tests.client import Connection
from tests.service import Service
from tests.tunnel import dialled, exactly, rest, shaken, ticket_of, trusting, verdict

from jitgate.hosts import agent_wire as wire

WHERE = {"address": "127.0.0.1", "port": 40022}


@pytest.fixture
def agent(gate: Service, olga: Connection, request: pytest.FixtureRequest) -> Iterator[FakeAgent]:
    """Of a host of its own for each test, which it reaches, connected."""
    with at_work(gate, olga, request.node.name, reach="agent") as made:
        yield made


class Client:
    """Somebody who asks for a session; the verdict comes when the host has dialled back, or has not."""

    def __init__(self, gate: Service, person: Connection, host: str) -> None:
        ticket = ticket_of(person, host)
        self.tls = shaken(gate)
        question = json.dumps({"v": 1, "ticket": ticket, "host": host}).encode()
        self.tls.sendall(len(question).to_bytes(4, "big") + question)

    def verdict(self) -> dict[str, Any]:
        return verdict(self.tls)

    def bare(self) -> socket.socket:
        bare = self.tls.unwrap()
        bare.settimeout(20)
        return bare


def asked(agent: FakeAgent) -> wire.Dial:
    message = agent.obey_until("Dial")
    assert isinstance(message, wire.Dial)
    return message


def presented(gate: Service, **said: Any) -> tuple[dict[str, Any], ssl.SSLSocket]:
    """What the gateway answers to somebody who comes with this."""
    tls = trusting(gate, wire.DIALBACK_ALPN).wrap_socket(dialled(gate), server_hostname="127.0.0.1")
    document = json.dumps({"v": 1, **WHERE, **said}).encode()
    tls.sendall(len(document).to_bytes(4, "big") + document)
    size = int.from_bytes(exactly(tls, 4), "big")
    return json.loads(exactly(tls, size)), tls


def back(gate: Service, dial: wire.Dial) -> socket.socket:
    answer, tls = presented(gate, id=dial.id, secret=dial.secret)
    assert answer == {"ok": True}
    return tls.unwrap()


def refused(gate: Service, **said: Any) -> None:
    answer, tls = presented(gate, **said)
    assert (answer["ok"], answer["code"]) == (False, "dial_refused")
    tls.close()


def test_a_session_is_carried_over_a_connection_back(gate: Service, olga: Connection, agent: FakeAgent):
    client = Client(gate, olga, agent.name)
    host = back(gate, asked(agent))
    assert client.verdict()["ok"]
    bare = client.bare()
    host.sendall(b"SSH-2.0-host\r\n")
    assert exactly(bare, 14) == b"SSH-2.0-host\r\n"
    bare.sendall(b"x" * 100_000)
    assert exactly(host, 100_000) == b"x" * 100_000
    sessions = olga.get("/v1/sessions").json["sessions"]
    assert agent.name in [each["host"] for each in sessions]
    host.close()
    assert rest(bare) == b""
    bare.close()


def test_a_dial_is_good_once(gate: Service, olga: Connection, agent: FakeAgent):
    client = Client(gate, olga, agent.name)
    dial = asked(agent)
    host = back(gate, dial)
    assert client.verdict()["ok"]
    refused(gate, id=dial.id, secret=dial.secret)
    host.close()
    client.tls.close()


def test_a_wrong_secret_is_refused_and_uses_nothing_up(gate: Service, olga: Connection, agent: FakeAgent):
    client = Client(gate, olga, agent.name)
    dial = asked(agent)
    for _ in range(3):
        refused(gate, id=dial.id, secret="0" * 64)
    host = back(gate, dial)
    assert client.verdict()["ok"]
    host.close()
    client.tls.close()


def test_another_hosts_agent_cannot_take_a_session(gate: Service, olga: Connection, agent: FakeAgent):
    """It knows its own secret, for its own dial, and that opens its own session only."""
    other = joined(olga, f"other-{agent.name}", labels={"tier": "web"}, reach="agent")
    assert isinstance(other.connect(gate), wire.Welcome)
    other.obey_until("BundleSent")
    wanted, theirs = Client(gate, olga, agent.name), Client(gate, olga, other.name)
    dial, own = asked(agent), asked(other)
    refused(gate, id=dial.id, secret=own.secret)
    refused(gate, id=own.id, secret=dial.secret)
    foreign, host = back(gate, own), back(gate, dial)
    assert wanted.verdict()["ok"]
    assert theirs.verdict()["ok"]
    host.sendall(b"mine")
    foreign.sendall(b"other")
    bare, their_bare = wanted.bare(), theirs.bare()
    assert exactly(bare, 4) == b"mine"
    assert exactly(their_bare, 5) == b"other"
    for each in (host, foreign, other, bare, their_bare):
        each.close()


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"id": "x", "secret": "0" * 64},
        {"id": "01HF7YAT005TR67YA6P97ZRKFB", "secret": 7},
        {"id": "01HF7YAT005TR67YA6P97ZRKFB", "secret": "0" * 64, "port": 0},
        {"id": "01HF7YAT005TR67YA6P97ZRKFB", "secret": "0" * 64, "address": "web1"},
        {"id": "01HF7YAT005TR67YA6P97ZRKFB", "secret": "0" * 64, "more": "x" * 600},
    ],
)
def test_what_is_no_answer_is_hung_up_on(gate: Service, said: dict[str, Any]):
    tls = trusting(gate, wire.DIALBACK_ALPN).wrap_socket(dialled(gate), server_hostname="127.0.0.1")
    document = json.dumps({"v": 1, **WHERE, **said}).encode()
    tls.sendall(len(document).to_bytes(4, "big") + document)
    assert rest(tls) == b""
    tls.close()


def test_an_agent_that_is_not_there_is_said(gate: Service, olga: Connection, agent: FakeAgent):
    agent.close()
    client = Client(gate, olga, agent.name)
    said = client.verdict()
    assert (said["ok"], said["code"]) == (False, "host_unreachable")
    assert "agent" in said["detail"]
    client.tls.close()


def test_a_client_that_goes_takes_its_dial_with_it(gate: Service, olga: Connection, agent: FakeAgent):
    """What then comes back is closed, and no session is in the list."""
    client = Client(gate, olga, agent.name)
    dial = asked(agent)
    client.tls.close()
    host = back(gate, dial)
    assert rest(host) == b""
    host.close()


def test_many_at_once_each_get_their_own(gate: Service, olga: Connection, agent: FakeAgent):
    clients = [Client(gate, olga, agent.name) for _ in range(8)]
    hosts = [back(gate, asked(agent)) for _ in clients]
    for number, host in enumerate(hosts):
        host.sendall(b"%d" % number)
    bares = []
    for client in clients:
        assert client.verdict()["ok"]
        bares.append(client.bare())
    assert sorted(exactly(bare, 1) for bare in bares) == sorted(b"%d" % number for number in range(8))
    for each in (*hosts, *bares):
        each.close()
