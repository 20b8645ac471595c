"""`jitgate host trust` as on a real host: as root, on /etc/ssh, with StrictModes, and sshd found as it runs.

In namespaces of its own: /etc and /run are the test's, and no process outside is seen or touched.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.interop.trusting import PERSON, tree
from tests.unit.agent.trusts import HOST_CA, USER_CA, certify, trust

from jitgate.agent.trust import dump
from jitgate.ssh.cert import CertType
from jitgate.ssh.private import dump_private_key
from jitgate.ssh.pubkey import parse_public_key_line

UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def allowed() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not allowed(), reason="needs root that may make namespaces")

INSIDE = """\
set -eu
cd "$1"
cp -a /etc etc
rm -rf etc/ssh etc/passwd etc/group etc/shadow
mkdir etc/ssh
cp passwd group shadow etc
mount --bind etc /etc
mount --bind ssh /etc/ssh
mount -t tmpfs none /run
mkdir -m 755 /run/sshd
start() {{ "$sshd" -E "$PWD/log" "$@"; timeout 20 sh -c 'until grep -q "^Server listening" log; do sleep 0.02; done'; }}
trust() {{ {python} -c 'from jitgate.app.commands.host_trust import host_trust; host_trust()' web1.trust "$@" 2>&1; }}
login() {{
  ssh -F none -i client/id -p {port} -o BatchMode=yes -o IdentityAgent=none -o UserKnownHostsFile="$PWD/client/known" \
    -o HostKeyAlias=web1.default.jitgate root@127.0.0.1 'echo in as $(id -un)' 2>&1
}}
"""


@pytest.fixture
def folder(programs: Mapping[str, Path]) -> Iterator[Path]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as name:
        folder = Path(name)
        for part in ("ssh/sshd_config.d", "client", "home"):
            (folder / part).mkdir(parents=True)
        key = folder / "ssh/ssh_host_ed25519_key"
        subprocess.run([programs["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        (folder / "ssh/sshd_config").write_text(
            f"Include /etc/ssh/sshd_config.d/*.conf\nPort {port}\nListenAddress 127.0.0.1\nUsePAM no\n"
        )
        users = [f"root:x:0:0:root:{folder}/home:/bin/sh", "sshd:x:990:65534::/run/sshd:/bin/false"]
        (folder / "passwd").write_text("\n".join([*users, ""]))
        (folder / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
        (folder / "shadow").write_text("root:*:19000:0:99999:7:::\n")
        host_key = parse_public_key_line(key.with_suffix(".pub").read_text())[0]
        (folder / "web1.trust").write_text(dump(trust(host_key, "root")))
        (folder / "client/id").write_bytes(dump_private_key(PERSON).reveal())
        (folder / "client/id").chmod(0o600)
        line = certify(USER_CA, CertType.USER, PERSON.public, ("root@host:web1",)).line()
        (folder / "client/id-cert.pub").write_text(line + "\n")
        (folder / "client/known").write_text(f"@cert-authority web1.default.jitgate {HOST_CA.public.line()}\n")
        (folder / "inside").write_text(f"sshd={programs['sshd']}\n{INSIDE.format(port=port, python=sys.executable)}")
        yield folder


def inside(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    script = (folder / "inside").read_text() + "\n".join(lines)
    command = [*UNSHARE, "sh", "-c", script, "sh", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_installs_proves_reloads_and_undoes(folder: Path):
    before = tree(folder / "ssh")
    done = inside(folder, "start", "trust", "login", "trust --remove")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert "install  /etc/ssh/jitgate/principals/root" in said
    assert sum(line.startswith("reload   kill -HUP ") for line in said) == 2
    assert "in as root" in said
    assert tree(folder / "ssh") == before


SYSTEMCTL = """\
#!/bin/sh
case "$*" in
  'is-active --quiet sshd.service') ;;
  'reload sshd.service') kill -HUP $(cat /run/sshd.pid) ;;
  *) exit 3 ;;
esac
"""


def test_where_systemd_runs_it_reloads_the_unit_that_is_active(folder: Path):
    """As on Red Hat's hosts; Debian calls the unit ssh.service."""
    (folder / "systemctl").write_text(SYSTEMCTL)
    (folder / "systemctl").chmod(0o755)
    done = inside(folder, "mkdir -p /run/systemd/system", "PATH=$PWD:$PATH", "start", "trust", "login")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reload   systemctl reload sshd.service" in done.stdout
    assert "in as root" in done.stdout


def test_where_no_sshd_runs_the_next_one_reads_it(folder: Path):
    done = inside(folder, "trust", "start", "login")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reload   no sshd is running: the next one reads it" in done.stdout
    assert "in as root" in done.stdout


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("-o TrustedUserCAKeys=/etc/other", "sshd was started with settings of its own"),
        ("-f /etc/ssh/sshd_config -oTrustedUserCAKeys=/etc/other", "sshd was started with settings of its own"),
        ("-o PidFile=none", "neither by systemd nor with a pid file"),
    ],
)
def test_an_sshd_that_was_started_in_another_way_is_left_alone(folder: Path, option: str, reason: str):
    before = tree(folder / "ssh")
    done = inside(folder, f"start {option}", "trust")
    assert (done.returncode, tree(folder / "ssh")) == (1, before)
    assert reason in done.stdout


FAKE = """\
fake() {
  setpriv --reuid 65534 --regid 65534 --clear-groups \\
    bash -c 'exec -a "sshd: x [listener] -o trustedusercakeys=/x" "$@"' bash "$@" &
  export shown=/proc/$!
  timeout 20 sh -c 'until grep -q listener $shown/cmdline && grep -q "^Uid:.$real" $shown/status; do sleep 0.02; done'
}
setuid() { mkdir -m 755 /run/fake; cp "$1" "/run/fake/$2"; chmod 4755 "/run/fake/$2"; }
echo '$< = 0; sleep 600' >/run/become
export real=65534
"""
FAKES = {
    "a title of one's own": "fake sleep 600",
    "a setuid program, as passwd": "setuid /bin/sleep sshd; fake /run/fake/sshd 600",
    "one that is wholly root, as sudo": "setuid /usr/bin/perl sudo; real=0 fake /run/fake/sudo /run/become",
    "the same by a link of the user's": "setuid /usr/bin/perl sshd; real=0 fake /run/fake/sshd /run/become",
}


@pytest.mark.parametrize("kind", FAKES)
def test_what_an_ordinary_user_runs_is_no_sshd_whatever_it_calls_itself(folder: Path, kind: str):
    """Else anybody could keep a host from its trust: a new CA, a new host certificate, leaving."""
    before = tree(folder / "ssh")
    done = inside(folder, FAKE, FAKES[kind], "trust --check", "start", "trust", "login", "trust --remove")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "would    reload sshd\n" in done.stdout  # none runs
    assert sum(line.startswith("reload   kill -HUP ") for line in done.stdout.splitlines()) == 2
    assert "in as root" in done.stdout
    assert tree(folder / "ssh") == before


REPLACED = """\
pid=$(cat /run/sshd.pid)
exe=$(readlink /proc/$pid/exe)
kill $pid
until [ ! -e /run/sshd.pid ]; do sleep 0.02; done
rm log
mkdir -m 755 /run/own
cp "$exe" /run/own/sshd
if [ "$(head -c 2 "$sshd")" = '#!' ]; then  # a wrapper of an unpacked package's
  sed "s#$exe#/run/own/sshd#" "$sshd" >/run/own/start
  chmod 755 /run/own/start
  sshd=/run/own/start
else
  sshd=/run/own/sshd
fi
"""
REPLACE = """\
cp "$exe" /run/own/new
mv /run/own/new /run/own/sshd
[ "$(readlink /proc/$(cat /run/sshd.pid)/exe)" = '/run/own/sshd (deleted)' ]
"""


def test_an_sshd_that_was_upgraded_since_it_was_started_is_reloaded(folder: Path):
    """Its program's file is gone: another has taken the place."""
    done = inside(folder, "start", REPLACED, "start", REPLACE, "trust", "login")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reload   kill -HUP " in done.stdout
    assert "in as root" in done.stdout


def test_an_sshd_with_a_configuration_of_its_own_does_not_matter(folder: Path):
    done = inside(folder, "cp /etc/ssh/sshd_config other", "start -f $PWD/other -o TrustedUserCAKeys=/x", "trust")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no sshd is running" in done.stdout


def test_only_root_is_let_at_the_machines_own_sshd(folder: Path):
    done = inside(
        folder,
        "chmod 755 .",
        "trust --print >script",
        "! setpriv --reuid 65534 --regid 65534 --clear-groups sh script 2>&1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "only root can read and change /etc/ssh" in done.stdout
