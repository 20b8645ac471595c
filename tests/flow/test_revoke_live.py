"""`jitctl revoke` with everything real: it says when a host with an agent knows, and names one that has none."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import tunnel
from tests.client import PASSWORD, Connection, code
from tests.interop.agents import join_with, running, status, until
from tests.service import Nursery, Service

from jitgate.app.local_sshd import LocalHost
from jitgate.core.clock import system_clock

SOURCE = Path(__file__).parents[2] / "src"
Start = Callable[..., LocalHost]


@pytest.fixture
def gate(nursery: Nursery) -> Iterator[Service]:
    with tunnel.gateway(nursery) as started:
        yield started


@pytest.fixture
def alice(gate: Service) -> Iterator[Connection]:
    connection = tunnel.enter(gate, "alice", "engineers")
    yield connection
    connection.close()


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def olga(gate: Service, tmp_path: Path) -> Run:
    """An administrator's jitctl."""
    secret = gate.add_person("olga", admin=True)
    home = {"HOME": str(tmp_path), "PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "jitgate.cli", *arguments]
        return subprocess.run(
            command, env=home, input=stdin, capture_output=True, text=True, check=False, start_new_session=True
        )

    given = ("--user", "olga", "--password-file", "-", "--code", code(secret, system_clock()))
    done = run("login", gate.login_url, *given, stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    return run


def test_it_is_said_when_hosts_know(gate: Service, start_sshd: Start, alice: Connection, olga: Run):
    host = start_sshd("web1", "ubuntu")
    told = {"name": "web1", "logins": ["ubuntu"], "address": host.address, "port": host.port, "labels": {"tier": "web"}}
    admin = tunnel.enter(gate, "admin", admin=True)
    token = admin.post("/v1/hosts/tokens", told).json["token"]
    admin.close()
    assert join_with(host, token).returncode == 0
    gate.add_host("plain")
    first = tunnel.certified(alice, tunnel.granted(alice, "web1"), "web1")
    with running(host):
        until(lambda: status(host)["connected"])
        done = olga("revoke", "certificate", first["serial"], "--reason", "left on a train")
        assert re.fullmatch(r"revoked on 1/2 hosts, slowest [0-9]+\.[0-9] s\n", done.stdout), done
        assert (done.returncode, "without an agent, good there until it ends: plain" in done.stderr) == (0, True)
        krl = subprocess.run(
            ["ssh-keygen", "-Q", "-l", "-f", host.etc / "jitgate/krl"], capture_output=True, text=True, check=True
        )
        assert f"serial: {first['serial']}\n" in krl.stdout
    done = gate.jitgate("revoke", "person", "alice", "--wait", "0", "-o", "json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["revocation"]["keys"], answer["progress"]["waiting"]) == (1, 1, ["web1"]), (
        done.stderr
    )
    assert gate.jitgate("revoke", "person", "nobody").returncode == 6
    alice.close()
    alice = tunnel.enter(gate, "anna", "engineers")
    second = tunnel.certified(alice, tunnel.granted(alice, "web1"), "web1")
    done = olga("revoke", "certificate", second["serial"], "--wait", "1")
    assert (done.returncode, done.stdout) == (1, "revoked on 0/2 hosts\n")
    assert "no answer yet from web1" in done.stderr
    identifier = re.search(r"jitctl revoke show ([0-9A-Z]{26})", done.stderr)
    assert identifier
    with running(host):
        done = olga("revoke", "show", identifier[1], "--wait", "30")
        assert (done.returncode, done.stdout.startswith("revoked on 1/2 hosts, slowest ")) == (0, True), done
    alice.close()
