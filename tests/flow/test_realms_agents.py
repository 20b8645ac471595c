"""Agents of two realms at one service: each is told its own realm's keys and revocations, and nothing of the other."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests import tunnel
from tests.agents import FakeAgent, come, invited, joined
from tests.client import Connection
from tests.service import ROLES, Nursery, Service

from jitgate.ca.envelope import take_envelope
from jitgate.core.errors import BadInput
from jitgate.hosts import agent_wire as wire
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.krl import parse_krl


@pytest.fixture(scope="module")
def gate(nursery: Nursery) -> Iterator[Service]:
    with tunnel.gateway(nursery) as started:
        done = started.jitgate("realm", "add", "eu")
        assert done.returncode == 0, done.stderr
        started.apply(ROLES, ROLES.replace(b"role: web\n", b"role: web-eu\nrealm: eu\n"))
        yield started


@pytest.fixture
def agents(gate: Service, olga: Connection, request: pytest.FixtureRequest) -> Iterator[dict[str, FakeAgent]]:
    """Two hosts of one name, connected."""
    name = f"h{abs(hash(request.node.name)) % 10**9}"
    made = {realm: joined(olga, name, realm=realm, labels={"tier": "web"}) for realm in ("default", "eu")}
    for each in made.values():
        come(each, gate)
    yield made
    for each in made.values():
        each.close()


def keys_of(gate: Service, realm: str) -> dict[str, str]:
    rows = gate.act("ca ls")["keys"]
    return {row["kind"]: row["fingerprint"] for row in rows if (row["realm"], row["phase"]) == (realm, "active")}


def test_each_is_told_the_keys_of_its_own_realm(gate: Service, agents: dict[str, FakeAgent]):
    for realm, agent in agents.items():
        assert agent.trust
        keys = keys_of(gate, realm)
        told = {"user": agent.trust.user, "host": agent.trust.host, "interception": agent.trust.interception}
        assert {kind: [key.fingerprint for key in found] for kind, found in told.items()} == {
            kind: [keys[kind]] for kind in told
        }
        shown = parse_certificate_line(agent.told["certificate"]).body
        assert shown.ca.fingerprint == keys["host"]
        assert f"{agent.told['host']['name']}.{realm}.jitgate" in shown.principals


def test_what_one_realm_is_told_another_does_not_take(agents: dict[str, FakeAgent]):
    """Though the same service and the same root and online keys signed it."""
    ours, theirs = agents["default"], agents["eu"]
    for realm, agent in agents.items():
        other = theirs if agent is ours else ours
        trust, bundle = other.told["trust"], other.told["bundle"]
        with pytest.raises(BadInput) as refused:
            agent.take_trust(take_envelope(trust, 1 << 20))
        assert refused.value.code == "other_realm", realm
        with pytest.raises(BadInput) as refused:
            agent.take_bundle(take_envelope(bundle, 1 << 20), None)
        assert refused.value.code in {"other_realm", "other_host"}, realm


def test_a_token_joins_the_realm_that_it_is_for(gate: Service, olga: Connection):
    token = invited(olga, "only-eu", realm="eu")
    agent = FakeAgent()
    body = agent.body(token) | {"realm": "default"}
    stranger = gate.connect()
    try:
        refused = stranger.post("/v1/hosts/join", body)
        assert refused.status >= 400, refused
    finally:
        stranger.close()
    assert [host["realm"] for host in gate.act("host ls")["hosts"] if host["name"] == "only-eu"] == []


def test_an_agent_cannot_say_that_it_is_of_another_realm(gate: Service, agents: dict[str, FakeAgent]):
    """It proves its host's key, and that is known in its own realm alone."""
    agent = agents["eu"]
    assert agent.token
    agent.token = replace(agent.token, realm="default")
    assert isinstance(agent.connect(gate), wire.Refused)


def test_who_loses_one_realm_stands_in_that_realms_list(gate: Service, agents: dict[str, FakeAgent]):
    alice = tunnel.enter(gate, f"alice{abs(hash(agents['eu'].told['host']['id'])) % 10**6}", "engineers")
    name = agents["eu"].name
    person = alice.get("/v1/me").json["person"]["name"]
    for realm in ("default", "eu"):
        grant = alice.post("/v1/grants", {"host": name, "realm": realm}).json["grant"]["id"]
        assert alice.post("/v1/certificates", {"grant": grant, "host": name}).status == 201
    before = {realm: agent.krl for realm, agent in agents.items()}
    gate.act("user leave", name=person, realm="eu", reason="")
    agents["eu"].obey_until("BundleSent")
    while agents["eu"].krl == before["eu"]:
        agents["eu"].obey_until("BundleSent")
    agents["default"].obey_until("BundleSent")
    assert parse_krl(agents["eu"].krl).certificates
    assert not parse_krl(agents["default"].krl).certificates
    alice.close()
