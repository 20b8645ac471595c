"""What hosts' agents report of logins: joined with the tunnel, recorded, and ended where it does not fit."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests import tunnel
from tests.agents import FakeAgent, at_work, come, eventually, joined
from tests.client import Connection
from tests.service import ROLES, Nursery, Service
from tests.tunnel import Tunnel, certified, granted, opened, rest

from jitgate.ca.names import user_key_id
from jitgate.core.clock import system_clock
from jitgate.core.ids import new_id
from jitgate.hosts import agent_wire as wire
from jitgate.hosts.bundle import EndedSession
from jitgate.hosts.host_login import Ended, How, LeftBehind, Login, Logout, make_report
from jitgate.ssh.cert import parse_certificate_line

BRIEF = b"""
role: brief
effect: allow
who: {groups: [engineers]}
what: {labels: {tier: brief}}
as: [ubuntu]
how_long: {grant: 2s, certificate: 2s}
"""


@pytest.fixture(scope="module")
def gate(nursery: Nursery) -> Iterator[Service]:
    with tunnel.gateway(nursery, ROLES, BRIEF) as started:
        yield started


@pytest.fixture(scope="module")
def listening() -> Iterator[int]:
    with tunnel.host(tunnel.echo) as port:
        yield port


@pytest.fixture
def agent(gate: Service, olga: Connection, request: pytest.FixtureRequest, listening: int) -> Iterator[FakeAgent]:
    """Of a host of its own for each test, which the gateway dials, connected."""
    with at_work(gate, olga, request.node.name, address="127.0.0.1", port=listening) as made:
        yield made


def events(olga: Connection, agent: FakeAgent, kind: str) -> list[dict[str, Any]]:
    found = olga.get(f"/v1/audit?type={kind}&limit=200").json
    rows = found.get("entries") or found.get("events") or []
    return [each for each in rows if str(each["target"]).endswith(f"host:{agent.name}")]


class Visit:
    """Somebody's tunnel to the agent's host, and how the host's sshd would see who comes by it."""

    def __init__(self, gate: Service, person: Connection, agent: FakeAgent) -> None:
        self.grant = granted(person, agent.name)
        answer = certified(person, self.grant, agent.name)
        self.certificate = parse_certificate_line(answer["certificate"])
        self.tunnel: Tunnel = opened(gate, answer["tunnel"]["ticket"], agent.name)
        sessions = person.get("/v1/sessions").json["sessions"]
        self.port = next(int(each["port"]) for each in sessions if each["id"] == self.tunnel.session)

    def login(self, **changed: Any) -> Login:
        body = self.certificate.body
        said = {"id": an_id(), "login": "ubuntu", "source": "127.0.0.1", "port": self.port, "at": system_clock()}
        said |= {"how": How.CERTIFICATE, "verified": True, "serial": body.serial, "key_id": body.key_id}
        return Login(**{**said, "ca": body.ca.fingerprint, **changed})

    def is_over(self) -> bool:
        """Waits for it."""
        self.tunnel.socket.settimeout(15)
        try:
            rest(self.tunnel.socket)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.tunnel.socket.close()


def an_id() -> str:
    return new_id(system_clock(), os.urandom)


def told_to_end(agent: FakeAgent, login: Login) -> bool:
    """Whether the next bundles name it."""
    for _ in range(20):
        agent.obey_until("BundleSent")
        assert agent.bundle
        if EndedSession(login.id, login.port) in agent.bundle.ended_sessions:
            return True
    return False


def test_a_login_is_joined_with_its_tunnel(gate: Service, olga: Connection, agent: FakeAgent):
    visit = Visit(gate, olga, agent)
    login = visit.login()
    agent.send(make_report(login))
    agent.send(make_report(login))  # sent again after a lost connection: one entry
    (said,) = eventually(lambda: events(olga, agent, "login.began"))
    assert (said["session"], said["grant"], said["detail"]["how"]) == (visit.tunnel.session, visit.grant, "certificate")
    assert int(said["serial"]) == login.serial
    agent.send(make_report(Logout(login.id, system_clock(), Ended.ITSELF)))
    agent.send(make_report(Logout(login.id, system_clock(), Ended.ITSELF)))
    (over,) = eventually(lambda: events(olga, agent, "login.ended"))
    assert (over["session"], over["detail"]["login"]) == (visit.tunnel.session, login.id)
    assert events(olga, agent, "login.alarm") == []
    visit.close()


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"how": How.KEY, "serial": 0, "key_id": "", "ca": ""}, "no_certificate"),
        ({"how": How.OTHER, "serial": 0, "key_id": "", "ca": ""}, "no_certificate"),
        ({"key_id": user_key_id("01HF7YAT005TR67YA6P97ZRKFB", "olga")}, "other_certificate"),
        ({"login": "root"}, "other_certificate"),
        ({"ca": "SHA256:" + "x" * 43}, "no_certificate"),
        ({"key_id": "of another authority"}, "no_certificate"),
    ],
)
def test_who_does_not_belong_in_a_tunnel_is_ended_and_alarmed(
    gate: Service, olga: Connection, agent: FakeAgent, changed: dict[str, Any], code: str
):
    visit = Visit(gate, olga, agent)
    login = visit.login(**changed)
    agent.send(make_report(login))
    assert told_to_end(agent, login)
    assert visit.is_over()
    (alarm,) = eventually(lambda: events(olga, agent, "login.alarm"))
    assert (alarm["detail"]["code"], alarm["session"]) == (code, visit.tunnel.session)
    agent.send(make_report(Logout(login.id, system_clock(), Ended.ORDERED, 3)))
    assert eventually(lambda: events(olga, agent, "login.ended"))
    visit.close()


def test_who_comes_directly_is_recorded_and_left(gate: Service, olga: Connection, agent: FakeAgent):
    """From another address, the same port says nothing: a tunnel's neighbour is nobody's intruder."""
    visit = Visit(gate, olga, agent)
    login = visit.login(source="192.0.2.9", how=How.KEY, serial=0, key_id="", ca="")
    agent.send(make_report(login))
    (said,) = eventually(lambda: events(olga, agent, "login.began"))
    assert said.get("session", "") == ""
    assert said["source"] == "192.0.2.9"
    time.sleep(1)
    assert events(olga, agent, "login.alarm") == []
    visit.tunnel.socket.sendall(b"still here")
    visit.close()


def test_what_is_not_verified_ends_nobody(gate: Service, olga: Connection, agent: FakeAgent):
    visit = Visit(gate, olga, agent)
    assert tunnel.exactly(visit.tunnel.socket, 6) == b"hello\n"
    agent.send(make_report(visit.login(verified=False, how=How.KEY, serial=0, key_id="", ca="")))
    assert eventually(lambda: events(olga, agent, "login.alarm"))
    while not agent.silent(1):
        assert agent.bundle
        assert agent.bundle.ended_sessions == ()
    visit.tunnel.socket.sendall(b"x")
    assert visit.tunnel.socket.recv(100) == b"x"
    visit.close()


def test_a_killed_session_ends_its_login_on_the_host(gate: Service, olga: Connection, agent: FakeAgent):
    visit = Visit(gate, olga, agent)
    login = visit.login()
    agent.send(make_report(login))
    assert eventually(lambda: events(olga, agent, "login.began"))
    assert olga.post(f"/v1/sessions/{visit.tunnel.session}/end").status in (200, 202, 204)
    assert told_to_end(agent, login)
    visit.close()


def test_a_grant_that_runs_out_is_told_to_the_hosts(gate: Service, olga: Connection, listening: int):
    """Nobody ends it, and no tunnel: the agent hears of it all the same, within seconds."""
    agent = joined(olga, "brief1", labels={"tier": "brief"}, address="127.0.0.1", port=listening)
    come(agent, gate)
    grant = granted(olga, "brief1")
    body = parse_certificate_line(certified(olga, grant, "brief1")["certificate"]).body
    named = (How.CERTIFICATE, True, body.serial, body.key_id, body.ca.fingerprint)
    agent.send(make_report(Login(an_id(), "ubuntu", "192.0.2.9", 4711, system_clock(), *named)))
    assert eventually(lambda: events(olga, agent, "login.began"))
    while not (agent.bundle and grant in agent.bundle.ended_grants):
        agent.obey_until("BundleSent")
    agent.close()


def test_what_was_left_behind_is_recorded(olga: Connection, agent: FakeAgent):
    key_id = user_key_id("01HF7YAT005TR67YA6P97ZRKFB", "olga")
    items = (("key", "/home/ubuntu/.ssh/authorized_keys"), ("crontab", "/var/spool/cron/crontabs/ubuntu"))
    agent.send(make_report(LeftBehind(an_id(), "ubuntu", key_id, system_clock(), items)))
    (said,) = eventually(lambda: events(olga, agent, "login.left_behind"))
    assert "authorized_keys" in said["detail"]["items"]
    assert "crontab=" in said["detail"]["items"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"id": "x"},
        {"source": "web1"},
        {"source": "192.0.2.9", "port": 70000},
        {"how": "guess"},
        {"verified": 1},
        {"serial": -1},
        {"login": "a\nb"},
        {"key_id": "\x1b[2J"},
        {"more": "than is known"},
    ],
)
def test_what_no_agent_reports_is_hung_up_on(agent: FakeAgent, fields: dict[str, Any]):
    login = Login(an_id(), "ubuntu", "192.0.2.9", 4711, system_clock(), How.KEY, verified=True)
    said = dict(make_report(login).fields) | fields if fields else {}
    agent.send(wire.Report("login", said))
    assert agent.is_hung_up_on()
