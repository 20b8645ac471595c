"""A plan and hosts with agents: no step before each of them has acknowledged the list of trust."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import tunnel
from tests.agents import FakeAgent, come, eventually, joined
from tests.client import Connection
from tests.flow.test_ca_keys import put_key
from tests.flow.test_rotation import act, held_up, start
from tests.service import Nursery, Service

from jitgate.core.errors import Error
from jitgate.hosts import agent_wire as wire
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import generate_ed25519
from jitgate.ssh.pubkey import parse_public_key_line


@pytest.fixture
def gate(nursery: Nursery) -> Iterator[Service]:
    with tunnel.gateway(nursery) as started:
        yield started


@pytest.fixture
def olga(gate: Service) -> Iterator[Connection]:
    connection = tunnel.enter(gate, "olga", "engineers", admin=True)
    yield connection
    connection.close()


@pytest.fixture
def agents(gate: Service, olga: Connection) -> Iterator[list[FakeAgent]]:
    made = [joined(olga, name, labels={"tier": "web"}) for name in ("web1", "web2")]
    for each in made:
        come(each, gate)
    yield made
    for each in made:
        each.close()


def advanced(service: Service, kind: str = "user") -> str:
    """The step that begins as soon as nothing holds it up: an acknowledgement is on its way."""

    def free() -> bool:
        (plan,) = service.act("ca rotate status")["plans"]
        return not plan["obstacles"]

    assert eventually(free), service.act("ca rotate status")
    return str(act(service, "advance", kind)["step"])


def test_no_step_before_each_agent_has_acknowledged(gate: Service, agents: list[FakeAgent]):
    new = put_key(gate).public
    old = agents[0].trust.user[0] if agents[0].trust else None
    start(gate, new.fingerprint)
    assert "web1's agent has not acknowledged it, and is connected" in held_up(gate)
    agents[0].obey_until("TrustSent")
    assert eventually(lambda: "web1" not in held_up(gate))
    assert "web2's agent has not acknowledged" in held_up(gate)
    agents[1].obey_until("TrustSent")
    assert advanced(gate) == "use"
    for each in agents:
        each.obey_until("TrustSent")
        assert each.trust
        assert each.trust.user == (new, old)  # the one that signs comes first
    assert advanced(gate) == "retire"  # nobody has a certificate by the old one
    assert "web1's agent" in held_up(gate)
    for each in agents:
        each.obey_until("TrustSent")
        assert each.trust
        assert each.trust.user == (new,)
    assert advanced(gate) == "done"


def test_an_agent_that_is_away_holds_it_up_until_it_is_back_or_waived(gate: Service, agents: list[FakeAgent]):
    agents[1].close()
    assert eventually(lambda: not gate.act("ca rotate status")["plans"])
    start(gate, put_key(gate).public.fingerprint)
    agents[0].obey_until("TrustSent")
    assert eventually(lambda: "web1" not in held_up(gate))
    assert eventually(lambda: "web2's agent has not acknowledged it, and was last seen at" in held_up(gate))
    with pytest.raises(Error):
        act(gate, "advance")
    act(gate, "waive", hosts=["web2"], reason="is in the workshop")
    assert advanced(gate) == "use"

    # back again, it is told all that it missed
    assert isinstance(agents[1].connect(gate), wire.Welcome)
    agents[1].obey_until("TrustSent")
    assert agents[1].trust
    assert len(agents[1].trust.user) == 2


def test_agents_ask_for_certificates_by_the_new_host_key(gate: Service, agents: list[FakeAgent]):
    new = put_key(gate, "host_ca-2027").public
    start(gate, new.fingerprint, "host")
    for each in agents:
        each.obey_until("TrustSent")
    assert advanced(gate, "host") == "use"
    assert "web1 shows a certificate by the old key" in held_up(gate, "host")
    for each in agents:
        each.obey_until("TrustSent")
        assert each.trust
        assert each.trust.host[0] == new
        each.send(wire.Renew())
        while not isinstance(sent := each.read(), wire.CertificateSent):
            pass
        body = parse_certificate_line(sent.line).body
        assert body.ca == new
        assert f"{each.name} shows a certificate by the old key" in held_up(gate, "host")  # nobody said otherwise
        each.host_ca = body.ca.fingerprint
        each.send(wire.Ack(each.have, each.clock()))
    assert eventually(lambda: "shows a certificate by the old key" not in held_up(gate, "host"))
    assert "may be under way that were shown the old certificate" in held_up(gate, "host")
    assert advanced(gate, "host") == "retire"
    for each in agents:
        each.obey_until("TrustSent")
    assert advanced(gate, "host") == "done"


def test_agents_are_told_of_a_backup_and_of_no_key_that_the_signers_file_does_not_name(
    gate: Service, agents: list[FakeAgent], tmp_path: Path
):
    words, file = tmp_path / "words", tmp_path / "user_ca-backup"
    words.write_text("correct horse battery staple\n")
    made = gate.jitgate("ca", "backup", "make", str(file), "--kind", "user", "--passphrase-file", str(words))
    assert made.returncode == 0, made.stderr
    backup = parse_public_key_line(file.with_name("user_ca-backup.pub").read_text().strip())[0]
    agents[0].obey_until("TrustSent")
    assert agents[0].trust
    assert agents[0].trust.user[1:] == (backup,)

    # as a service would that somebody took over: the key is listed, and the signer signs no list with it
    line = generate_ed25519().public.line()
    gate.act("ca add", key="", line=line, kind="user", realm="default")
    agents[0].silent(3)  # whatever comes is no list with that key
    assert agents[0].trust.user[1:] == (backup,)
