"""Agents at the real service's one port: who is let in, what they are told and when, and what is kept of it."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator

import pytest
from tests import tunnel
from tests.agents import FakeAgent, at_work, eventually, invited, joined, row, told_of_a_revocation
from tests.client import Connection
from tests.service import Service

from jitgate.core.clock import SECOND
from jitgate.hosts import agent_wire as wire
from jitgate.hosts.agent_wire import Have, Problem
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import generate_ed25519


@pytest.fixture
def agent(gate: Service, olga: Connection, request: pytest.FixtureRequest) -> Iterator[FakeAgent]:
    """A host of its own for each test, connected, with all that there is."""
    with at_work(gate, olga, request.node.name) as made:
        yield made


def test_an_agent_is_told_and_what_it_acknowledges_is_seen(olga: Connection, agent: FakeAgent):
    assert agent.bundle
    assert eventually(lambda: bool(row(olga, agent)["agent"]["bundle"] == list(agent.have.bundle or ())))
    said = row(olga, agent)["agent"]
    assert said["connected"]
    assert (said["current"], said["trust_current"], said["problems"]) == (True, True, [])
    assert abs(said["clock_off_s"]) < 5
    assert said["version"] == "0-test"


def test_a_revocation_reaches_it_at_once_with_a_newer_bundle(olga: Connection, agent: FakeAgent):
    assert agent.bundle
    before = agent.bundle
    began = time.monotonic()
    told_of_a_revocation(agent, olga)
    assert time.monotonic() - began < 5
    assert agent.bundle.version > before.version
    assert agent.bundle.krl != before.krl
    assert eventually(lambda: bool(row(olga, agent)["agent"]["current"]))


def test_a_grant_that_is_ended_stands_in_the_bundle_of_its_host(olga: Connection, agent: FakeAgent):
    name = agent.name
    grant = tunnel.granted(olga, name)
    assert olga.post(f"/v1/grants/{grant}/end", {}).status == 200
    assert eventually(lambda: not agent.silent(0.01) and grant in agent.bundle.ended_grants)  # type: ignore[union-attr]
    other = joined(olga, f"{name}x")
    assert other.bundle
    assert grant not in other.bundle.ended_grants


def test_the_revocation_list_is_not_sent_to_who_has_it(gate: Service, agent: FakeAgent):
    agent.close()
    agent.connect(gate)
    message = agent.obey_until("BundleSent")
    assert isinstance(message, wire.BundleSent)
    assert message.krl is None
    agent.close()
    agent.krl, agent.bundle = b"", None  # its disk is gone
    agent.connect(gate)
    message = agent.obey_until("BundleSent")
    assert isinstance(message, wire.BundleSent)
    assert message.krl


def test_who_cannot_prove_the_hosts_key_is_refused_in_one_wording(gate: Service, olga: Connection, agent: FakeAgent):
    other = joined(olga, f"{agent.told['host']['name']}o")
    refused = [
        agent.connect(gate, key=generate_ed25519()),
        agent.connect(gate, key=other.key),
        agent.connect(gate, name=other.name),
        agent.connect(gate, name="nobody"),
        agent.connect(gate, nonce="00" * 32),
        agent.connect(gate, shown="00" * 32),  # somebody between them shows another certificate
        agent.connect(gate, installation=str(other.told["host"]["id"])),
    ]
    assert {type(each) for each in refused} == {wire.Refused}
    assert len({(each.code, each.detail) for each in refused if isinstance(each, wire.Refused)}) == 1
    assert isinstance(agent.connect(gate), wire.Welcome)


def test_a_host_that_was_taken_out_is_hung_up_on_and_not_let_in_again(
    gate: Service, olga: Connection, agent: FakeAgent
):
    assert olga.delete(f"/v1/hosts/{agent.told['host']['name']}").status == 204
    refused = agent.obey_until("Refused")
    assert isinstance(refused, wire.Refused)
    assert refused.code == "host_removed"
    assert agent.is_hung_up_on()
    answer = agent.connect(gate)
    assert isinstance(answer, wire.Refused)
    assert answer.code == "agent_refused"


def test_a_newer_connection_ends_the_older(gate: Service, olga: Connection, agent: FakeAgent):
    older, agent.tls = agent.tls, None
    assert isinstance(agent.connect(gate), wire.Welcome)
    agent.obey_until("BundleSent")
    newer, agent.tls = agent.tls, older
    assert agent.is_hung_up_on()
    agent.close()
    agent.tls = newer
    told_of_a_revocation(agent, olga)
    assert row(olga, agent)["agent"]["connected"]


def test_a_clock_that_is_off_is_reported_and_so_is_its_mending(olga: Connection, agent: FakeAgent):
    agent.clock_off = -90 * SECOND
    agent.send(wire.Ping(agent.clock()))
    assert isinstance(agent.obey_until("Pong"), wire.Pong)
    assert eventually(lambda: bool(row(olga, agent)["agent"]["problems"]))
    (problem,) = row(olga, agent)["agent"]["problems"]
    assert problem["code"] == "clock"
    assert "s behind" in problem["detail"]
    agent.clock_off = 0
    agent.send(wire.Ping(agent.clock()))
    assert eventually(lambda: not row(olga, agent)["agent"]["problems"])
    events = olga.get(f"/v1/audit?type=host.problem&host={agent.told['host']['name']}").json["events"]
    assert [event["detail"]["problems"] for event in events] == ["clock", "none"]


def test_what_is_wrong_on_the_host_is_said_once(olga: Connection, agent: FakeAgent):
    for _ in range(3):
        agent.send(wire.Ack(agent.have, agent.clock(), (Problem("disk_full", "no space left"),)))
    assert eventually(lambda: bool(row(olga, agent)["agent"]["problems"]))
    time.sleep(0.2)
    events = olga.get(f"/v1/audit?type=host.problem&host={agent.told['host']['name']}").json["events"]
    assert len(events) == 1


def test_a_new_host_certificate_is_given_to_who_asks(agent: FakeAgent):
    agent.send(wire.Renew())
    message = agent.obey_until("CertificateSent")
    assert isinstance(message, wire.CertificateSent)
    body = parse_certificate_line(message.line).body
    assert body.key == agent.key.public
    assert body.serial != parse_certificate_line(agent.told["certificate"]).body.serial
    agent.send(wire.Renew())
    assert agent.silent(0.5)  # once a minute


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\1\0\1" + b"x" * 65537,
        b"\0\0\0\2{}",
        b"\0\0\0\7garbage",
        wire.put_frame(wire.Welcome(1)),
        wire.put_frame(wire.AgentHello("default", "web1", "0", b"", Have(), 1)),
    ],
)
def test_who_sends_what_no_agent_sends_is_hung_up_on(agent: FakeAgent, frame: bytes):
    assert agent.tls
    with contextlib.suppress(OSError):
        agent.tls.sendall(frame)
    assert agent.is_hung_up_on()


def test_who_sends_too_much_is_hung_up_on(agent: FakeAgent):
    assert agent.tls
    frames = wire.put_frame(wire.Ping(agent.clock())) * (2 * wire.MESSAGES)
    with contextlib.suppress(OSError):
        agent.tls.sendall(frames)
    assert agent.is_hung_up_on()


def test_a_stranger_who_says_nothing_is_let_go_of(install: Callable[..., Service]):
    hasty = install(tls=True)
    hasty.start(TEST_CONSTANTS=json.dumps({"jitgate.gateway.agents.HELLO_S": 1.0}))
    stranger = FakeAgent()
    stranger.tls = tunnel.trusting(hasty, wire.ALPN).wrap_socket(tunnel.dialled(hasty), server_hostname="127.0.0.1")
    assert isinstance(stranger.read(), wire.Greeting)
    assert stranger.is_hung_up_on()
    stranger.close()


def test_after_a_crash_agents_come_back_and_nobody_is_said_to_be_connected_who_is_not(
    gate: Service, olga: Connection, agent: FakeAgent
):
    olga.close()
    gate.kill()
    gate.start()
    assert not row(olga, agent)["agent"]["connected"]
    assert isinstance(agent.connect(gate), wire.Welcome)
    agent.obey_until("BundleSent")
    assert eventually(lambda: bool(row(olga, agent)["agent"]["connected"]))
    olga.close()
    gate.stop()
    assert agent.is_hung_up_on()
    gate.start()
    assert not row(olga, agent)["agent"]["connected"]


def test_a_new_ca_key_is_trusted_by_agents_as_soon_as_it_is_listed(gate: Service, agent: FakeAgent):
    assert agent.trust
    before = agent.trust
    key = gate.settings.keys_folder / "user_ca-next"
    from jitgate.adapters.signers.files import write_key  # noqa: PLC0415

    write_key(gate.settings.keys_folder, key.name, generate_ed25519())
    listed = False
    for _ in range(100):
        done = gate.jitgate("ca", "add", key.name)
        if listed := done.returncode == 0:
            break
        time.sleep(0.1)
    assert listed, done.stderr
    agent.obey_until("TrustSent")
    assert set(agent.trust.user) > set(before.user)
    assert agent.trust.version > before.version


def test_a_host_joins_again_under_its_name_with_a_token_for_it(gate: Service, olga: Connection, agent: FakeAgent):
    name = agent.name
    other = FakeAgent()
    assert other.join(olga, invited(olga, name, again=True)).status == 201
    refused = agent.obey_until("Refused")
    assert isinstance(refused, wire.Refused)
    assert isinstance(other.connect(gate), wire.Welcome)
    other.close()
