"""The agent as on a real host: root, /etc/ssh, /etc/jitgate, /var/lib, sshd found as it runs, a network of its own.

In namespaces: /etc, /run and /var/lib are the test's, no process outside is seen, and there is no way out of it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.interop.test_host_trust_root import UNSHARE, allowed, folder  # noqa: F401  # a fixture
from tests.interop.trusting import tree
from tests.unit.agent.trusts import HOST_CA, USER_CA

from jitgate.ssh.private import dump_private_key

pytestmark = [
    pytest.mark.skipif(not allowed(), reason="needs root that may make namespaces"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="there is no ip (Debian: iproute2)"),
]

AGENT = f"""\
ip link set lo up
mount -t tmpfs none /var/lib
export PYTHONPATH={Path(__file__).parents[2]}:{Path(__file__).parents[2] / "src"}
agent() {{ what=$1; shift; {sys.executable} -m jitgate agent "$what" "$@" 2>&1; }}
soon() {{ timeout 20 sh -c "until $1; do sleep 0.1; done"; }}
{sys.executable} -m tests.enroller "$PWD" web1 root & service=$!
soon '[ -s token ]'
"""

RUN = f"{sys.executable} -m jitgate agent run >run.log 2>&1 & agent=$!"


def inside(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:  # noqa: F811  # the fixture's value
    for name, key in (("user_ca", USER_CA), ("host_ca", HOST_CA)):
        (folder / name).write_bytes(dump_private_key(key).reveal())
    script = "\n".join([(folder / "inside").read_text(), AGENT, *lines])
    command = [*UNSHARE, "--net", "sh", "-c", script, "sh", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_host_joins_obeys_and_leaves(folder: Path):  # noqa: F811
    before = tree(folder / "ssh")
    done = inside(
        folder,
        "start",
        "agent join <token",
        "login",
        "stat -c '%a %U %n' /etc/jitgate/agent.toml /var/lib/jitgate-agent /var/lib/jitgate-agent/bundle.json",
        RUN,
        "soon 'grep -q connected run.log'",
        "agent status",
        "kill $agent; wait $agent",
        "agent doctor",
        "agent leave",
        "kill $service",
        "ls /etc/jitgate /var/lib/jitgate-agent 2>&1 || true",
    )
    said = done.stdout.splitlines()
    assert any(line.startswith("reload   kill -HUP ") for line in said)
    assert "in as root" in said
    assert "644 root /etc/jitgate/agent.toml" in said
    assert "700 root /var/lib/jitgate-agent" in said
    assert "600 root /var/lib/jitgate-agent/bundle.json" in said
    assert sum("No such file or directory" in line for line in said) == 2
    assert tree(folder / "ssh") == before


def test_what_is_revoked_is_refused(folder: Path):  # noqa: F811
    """The certificate of the test has serial 1; the service revokes 7: both are asked of sshd's own list."""
    done = inside(
        folder,
        "start",
        "agent join <token",
        RUN,
        "soon 'grep -q connected run.log'",
        "kill -USR1 $service",
        "soon 'ssh-keygen -Q -l -f /etc/ssh/jitgate/krl | grep -q \"serial: 7\"'",
        "login",
        "kill $agent; wait $agent; kill $service",
    )
    assert "in as root" in done.stdout


def test_without_any_capability_it_does_all_of_it(folder: Path):  # noqa: F811
    """As the unit runs it: root by name only. The script changes sshd's files, and sshd is reloaded."""
    bare = "setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "
    done = inside(
        folder,
        "start",
        "agent join --reload 'kill -HUP $(cat /run/sshd.pid)' <token",
        bare + RUN,
        "soon 'grep -q connected run.log'",
        "grep CapEff /proc/$agent/status",
        "kill -USR1 $service",
        "soon '[ $(wc -l </etc/ssh/jitgate/user_ca.pub) = 2 ]'",
        "soon 'ssh-keygen -Q -l -f /etc/ssh/jitgate/krl | grep -q \"serial: 7\"'",
        "until login; do sleep 0.1; done",  # a reload closes the port for a moment
        "kill $agent; wait $agent; kill $service; cat run.log",
    )
    assert "CapEff:\t0000000000000000" in done.stdout
    assert "in as root" in done.stdout
    assert "problem" not in done.stdout.rpartition("in as root")[2]


def test_only_root_joins_the_machines_own_sshd(folder: Path):  # noqa: F811
    done = inside(
        folder,
        "chmod 755 .",
        "! setpriv --reuid 65534 --regid 65534 --clear-groups "
        f"{sys.executable} -m jitgate agent join --state /tmp/agent-of-nobody <token 2>&1",
        "kill $service",
    )
    assert "jitgate: error" in done.stdout
    assert not (folder / "ssh/jitgate").exists()
