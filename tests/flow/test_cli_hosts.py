"""`jitctl hosts` with the real service and its real signer, as docs/agents.md has it."""

import json
import subprocess
from collections.abc import Callable

import pytest
from tests import tunnel
from tests.agents import FakeAgent, eventually
from tests.flow.test_revoke_live import gate, olga
from tests.service import Service

from jitgate.hosts import agent_wire as wire
from jitgate.hosts.joining import read_token

__all__ = ["gate", "olga"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def agent_word(olga: Run, name: str) -> str:
    hosts = json.loads(olga("hosts", "ls", "-o", "json").stdout)["hosts"]
    agent = next(each for each in hosts if each["name"] == name)["agent"]
    return "ok" if agent["connected"] and agent["current"] and not agent["problems"] else "not yet"


@pytest.mark.usefixtures("gate")
def test_a_host_is_invited_joins_is_seen_labelled_replaced_and_taken_out(gate: Service, olga: Run):
    done = olga("hosts", "add", "web1", "--login", "ubuntu", "--label", "env=prod", "--address", "127.0.0.1")
    assert done.returncode == 0, done.stderr
    token = read_token(done.stdout.strip())
    stranger = tunnel.connect(gate)
    first, second = FakeAgent(), FakeAgent()
    assert first.join(stranger, token).status == 201
    assert isinstance(first.connect(gate), wire.Welcome)
    first.obey_until("BundleSent")
    assert eventually(lambda: agent_word(olga, "web1") == "ok")
    shown = olga("hosts", "show", "web1").stdout
    assert first.key.public.fingerprint in shown
    assert "knows of all that was revoked" in shown

    assert olga("hosts", "label", "web1", "env=dev", "team=blue").stdout == "env=dev team=blue\n"
    assert olga("hosts", "add", "web1", "--login", "ubuntu").returncode == 7

    assert second.join(stranger, token).status == 202
    assert f"web1 waits with the key {second.key.public.fingerprint}" in olga("hosts", "ls").stderr
    done = olga("hosts", "approve", "web1", "--yes")
    assert done.returncode == 0, done.stderr
    assert second.join(stranger, token).status == 201
    assert isinstance(first.obey_until("Refused"), wire.Refused)

    assert olga("hosts", "rm", "web1", "--yes").returncode == 0
    assert isinstance(second.connect(gate), wire.Refused)
    assert olga("hosts", "show", "web1").returncode == 6
    for agent in (first, second):
        agent.close()
    stranger.close()
