"""The agent with the sshd of another release: OpenSSH 10.0 of Debian 13, in a directory root of its own.

sshd is the release's, with its libraries, users and PAM; the agent runs beside it, on the same /etc/ssh and /run.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.interop.test_agent_root import AGENT, RUN
from tests.interop.test_host_trust_root import UNSHARE, allowed, folder  # noqa: F401  # a fixture
from tests.interop.trusting import tree
from tests.unit.agent.trusts import HOST_CA, USER_CA, certify
from tools import roots

from jitgate.ssh.cert import CertType
from jitgate.ssh.private import dump_private_key, generate_ed25519

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not allowed(), reason="needs root that may make namespaces"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="there is no ip (Debian: iproute2)"),
]

OTHER_CA = generate_ed25519()
SSHD = """\
#!/bin/sh
exec chroot {root} /usr/sbin/sshd "$@"
"""
# What is below the root is thrown away: an overlay in memory, in a mount namespace of the test.
MERGED = """\
cd "$1"
mount -t tmpfs none merged
mkdir merged/upper merged/work merged/os
mount -t overlay -o lowerdir={lower},upperdir=merged/upper,workdir=merged/work none merged/os
mkdir -p "merged/os$PWD"
mount --bind "$PWD" "merged/os$PWD"
mount -t proc none merged/os/proc
mount --rbind /dev merged/os/dev
cd /
"""
SHARED = """\
mount --bind ssh merged/os/etc/ssh
mount --bind /run merged/os/run
"""


@pytest.fixture(scope="module")
def lower() -> Path:
    """The directory root, which `make test-peers` has made."""
    if not (found := roots.place("trixie-sshd")).is_dir():
        what = "there is no root of Debian 13 here: python3 -m tools.roots trixie-sshd"
        pytest.fail(what) if os.environ.get("CI") else pytest.skip(what)
    return found


@pytest.fixture
def host(folder: Path, lower: Path) -> Path:  # noqa: F811
    """The folder of a host whose sshd is that of the root."""
    (folder / "merged").mkdir()
    (folder / "sshd").write_text(SSHD.format(root=folder / "merged/os"))
    (folder / "sshd").chmod(0o755)
    for name, key in (("user_ca", USER_CA), ("host_ca", HOST_CA), ("other_ca", OTHER_CA)):
        (folder / name).write_bytes(dump_private_key(key).reveal())
    head, _, rest = (folder / "inside").read_text().partition("\n")
    assert head.startswith("sshd=")
    text = f"set -eu\nsshd={folder}/sshd\n{MERGED.format(lower=lower)}{rest}{SHARED}{AGENT}"
    (folder / "inside").write_text(text)
    return folder


def inside(host: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    script = "\n".join([(host / "inside").read_text(), f'with="--sshd {host}/sshd"', *lines])
    command = [*UNSHARE, "--net", "sh", "-c", script, "sh", str(host)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_host_of_debian_13_joins_obeys_and_leaves(host: Path):
    before = tree(host / "ssh")
    done = inside(
        host,
        "start",
        "agent join $with <token",
        "login",
        f"{RUN}",
        "soon 'grep -q connected run.log'",
        "kill -USR1 $service",
        "soon '[ $(wc -l </etc/ssh/jitgate/user_ca.pub) = 2 ]'",
        "soon 'ssh-keygen -Q -l -f /etc/ssh/jitgate/krl | grep -q \"serial: 7\"'",
        "until login; do sleep 0.1; done",
        "agent doctor",
        "kill $agent; wait $agent",
        "agent exclusive --yes --undo-after 5m",
        "until login; do sleep 0.1; done",
        "agent leave",
        "kill $service; cat run.log",
    )
    assert done.stdout.count("in as root") >= 3
    assert "OpenSSH 10.0" in done.stdout
    assert "this sshd shuts out an address after failures" in done.stdout
    assert "PerSourcePenaltyExemptList 127.0.0.1" in done.stdout
    assert "problem " not in done.stdout
    assert tree(host / "ssh") == before


def test_beside_another_ca_on_debian_13(host: Path):
    """OpenSSH 10.0 too takes ours by a line of keys, scoped, and goes on with the other's."""
    (host / "ssh/other.pub").write_text(OTHER_CA.public.line() + "\n")
    (host / "ssh/sshd_config.d/20-other.conf").write_text("TrustedUserCAKeys /etc/ssh/other.pub\n")
    key = generate_ed25519()
    for name, principal in (("plain", "root"), ("scoped", "root@host:web1")):
        (host / name).write_bytes(dump_private_key(key).reveal())
        (host / name).chmod(0o600)
        line = certify(OTHER_CA, CertType.USER, key.public, (principal,)).line()
        (host / f"{name}-cert.pub").write_text(line + "\n")
    before = tree(host / "ssh")
    done = inside(
        host,
        "as() { ssh -F none -i $1 -p $(sed -n 's/^Port //p' /etc/ssh/sshd_config) -o BatchMode=yes "
        '-o IdentityAgent=none -o UserKnownHostsFile="$PWD/client/known" -o HostKeyAlias=web1.default.jitgate '
        'root@127.0.0.1 "echo $1 in" 2>&1; }',
        "start",
        "agent join $with <token",
        "login",
        "as plain",
        "! as scoped",
        "agent leave",
        "kill $service",
    )
    assert "in as root" in done.stdout
    assert "plain in" in done.stdout
    assert "scoped in" not in done.stdout
    assert "beside another set-up, which goes on" in done.stdout
    assert tree(host / "ssh") == before
