"""A database that was put back from a copy: nothing that was used is used again, and agents take what is told anew."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import tunnel
from tests.agents import come, eventually, joined, revoke_key, row
from tests.client import Connection
from tests.service import Nursery, Service
from tests.world import OPERATOR, World

from jitgate.ca.serials import epoch_of
from jitgate.core.errors import BadInput
from jitgate.flow.restore import begin_epoch, highest_epoch
from jitgate.hosts import agent_wire as wire
from jitgate.hosts.bundle import BundlePin, open_bundle
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.krl import parse_krl


@pytest.fixture
def service(nursery: Nursery) -> Iterator[Service]:
    with tunnel.gateway(nursery) as started:
        yield started


def files(service: Service) -> list[Path]:
    return sorted(service.state.glob("jitgate.db*"))


def copy(service: Service, folder: Path) -> None:
    """As an operator would: stopped, the file and what lies beside it."""
    service.stop()
    folder.mkdir()
    for path in files(service):
        shutil.copy2(path, folder)
    service.start()


def put_back(service: Service, folder: Path) -> None:
    service.stop()
    for path in files(service):
        path.unlink()
    for path in folder.iterdir():
        shutil.copy2(path, service.state)


def new_epoch(service: Service, *more: str) -> subprocess.CompletedProcess[str]:
    return service.jitgate("db", "new-epoch", *more)


def certificate(person: Connection, host: str) -> Any:
    told = tunnel.certified(person, tunnel.granted(person, host), host)
    return parse_certificate_line(told["certificate"])


def test_after_a_database_was_put_back_nothing_is_used_twice(service: Service, tmp_path: Path):
    olga = tunnel.enter(service, "olga", "engineers", admin=True)
    agent = joined(olga, "web1", labels={"tier": "web"})
    known = certificate(olga, "web1")  # if it is revoked from now on, the copy does not know
    copy(service, tmp_path / "copy")
    come(agent, service)
    for _ in range(3):
        revoke_key(olga)
    lost = certificate(olga, "web1")
    assert eventually(lambda: not agent.silent(0.05) and len(agent.have.bundle or ()) == 3)
    assert agent.bundle
    assert agent.trust
    before, size = agent.bundle, len(olga.get("/v1/audit?limit=1000").json["events"])
    agent.close()

    put_back(service, tmp_path / "copy")
    done = new_epoch(service)
    assert done.returncode == 0, done.stderr
    assert "epoch 1 has begun" in done.stderr
    service.start()

    come(agent, service)  # its sign-in was in the copy; the host's key is the same
    assert agent.bundle.version[0] == 1
    assert agent.bundle.version[1] < before.version[1] + 3
    assert agent.trust.version[0] == 1
    assert eventually(lambda: row(olga, agent)["agent"]["current"])
    assert olga.get("/v1/grants").json["grants"] == []
    anew = certificate(olga, "web1")
    assert epoch_of(anew.body.serial) == 1
    assert anew.body.serial > lost.body.serial

    of_ca = parse_krl(agent.krl).certificates[anew.body.ca.blob]
    assert known.body.serial in of_ca.serials
    assert lost.body.serial in of_ca.serials
    assert anew.body.serial not in of_ca.serials

    events = olga.get("/v1/audit?limit=1000").json["events"]
    indices = [event["index"] for event in events]
    assert len(set(indices)) == len(indices)
    lost_ones = [event["index"] for event in events if event["type"] == "service.restored"]
    assert len(lost_ones) > 3
    assert min(lost_ones) < size
    agent.close()
    olga.close()


def test_the_same_copy_put_back_twice_begins_another_epoch(service: Service, tmp_path: Path):
    copy(service, tmp_path / "copy")
    for wanted in (1, 2, 3):
        put_back(service, tmp_path / "copy")
        done = new_epoch(service)
        assert f"epoch {wanted} has begun" in done.stderr, done.stderr
        service.start()
    service.stop()
    assert "epoch 9 has begun" in new_epoch(service, "--at-least", "9").stderr
    service.start()


async def test_the_signers_list_knows_of_an_epoch_that_the_database_forgot(world: World):
    """As where the whole state folder was put back, with the file that names the last epoch."""
    await begin_epoch(world.outside, OPERATOR, 3)
    alice = await world.enter("alice")
    await alice.grant()
    assert (await alice.certificate()).status == 201
    await world.store.write(lambda tx: tx.set_value("epoch", "0"))
    assert await highest_epoch(world.outside) == 3


def test_no_epoch_begins_while_the_service_runs(service: Service):
    done = new_epoch(service)
    assert done.returncode == 7, done.stderr


def test_the_log_is_signed_again_and_verify_says_that_something_was_lost(service: Service, tmp_path: Path):
    olga = tunnel.enter(service, "olga", "engineers", admin=True)
    copy(service, tmp_path / "copy")
    for _ in range(5):
        revoke_key(olga)
    assert eventually(lambda: checkpoint_size(olga) > 10)
    signed = checkpoint_size(olga)
    put_back(service, tmp_path / "copy")
    done = new_epoch(service)
    assert " 0 entries" not in done.stderr
    service.start()
    assert eventually(lambda: checkpoint_size(olga) > signed)
    findings = json.loads(service.jitgate("audit", "verify", "-o", "json").stdout)["findings"]
    assert findings  # that history was lost is not hidden: the signer's list vouches for what was
    assert all("the signer's own list" in each["words"] for each in findings)
    olga.close()


def checkpoint_size(person: Connection) -> int:
    return int(person.get("/v1/checkpoint").body.decode().split("\n")[1])


def test_a_bundle_of_the_epoch_before_is_refused_by_every_host(service: Service, tmp_path: Path):
    olga = tunnel.enter(service, "olga", "engineers", admin=True)
    agent = joined(olga, "web1")
    copy(service, tmp_path / "copy")
    assert isinstance(agent.connect(service), wire.Welcome)
    revoke_key(olga)
    sent = agent.obey_until("BundleSent")
    assert isinstance(sent, wire.BundleSent)
    agent.close()
    put_back(service, tmp_path / "copy")
    assert new_epoch(service).returncode == 0
    service.start()
    come(agent, service)
    assert agent.bundle
    assert agent.trust
    bundle, trust = agent.bundle, agent.trust
    pin = BundlePin(bundle.installation, bundle.realm, bundle.host_id, bundle.host, trust.online)
    with pytest.raises(BadInput) as caught:
        open_bundle(sent.unverified, pin, bundle.version)
    assert caught.value.code == "old_version"
    open_bundle(sent.unverified, pin, None)  # only the version says so
    agent.close()
    olga.close()
