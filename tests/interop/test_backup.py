"""A backup CA key: made, offline, trusted by real hosts before it is needed; drilled; used when the key is stolen."""

import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests import people
from tests.interop.test_ca_rotation import tell
from tests.interop.test_rotation import ROLE

from jitgate.app.backup import drill, open_backup
from jitgate.app.demo.world import World, open_world
from jitgate.app.operate import operate
from jitgate.ca.realms import CaKind
from jitgate.core.errors import Error, Unreachable
from jitgate.core.secret import Secret
from jitgate.policy.bundle import load_files
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import generate_ed25519

WORDS = "correct horse battery staple"
PATIENCE_S = 20.0


@pytest.fixture
def world(programs: Mapping[str, Path]) -> Iterator[World]:
    assert programs
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder, open_world(Path(folder)) as opened:
        operate(opened.settings, "policy apply", {"bundle": load_files({"web.yaml": ROLE}).text})
        yield opened


def jitgate(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jitgate", "ca", *arguments, "--config", str(world.config)]
    return subprocess.run(command, input=WORDS + "\n", capture_output=True, text=True, check=False)


def test_a_backup_is_trusted_drilled_and_used_when_the_key_is_stolen(world: World):
    alice = people.sign_in(world, "alice")
    alice.jitctl("vm", "connect", "ubuntu@web1", "--", "true")
    file = world.folder / "stick" / "user_ca-backup"
    file.parent.mkdir()
    made = jitgate(world, "backup", "make", str(file), "--kind", "user", "--passphrase-file", "-")
    assert made.returncode == 0, made.stderr
    backup = made.stdout.strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(Error, match="does not open"):
        open_backup(file, Secret(b"correct horse battery stable"))
    rows = {row["fingerprint"]: row for row in operate(world.settings, "ca ls", {})["keys"]}
    assert (rows[backup]["phase"], rows[backup]["held"]) == ("listed", "no")  # trusted, and out of our reach
    assert f'trusted = ["{rows[backup]["key"]}"]' in (world.settings.state / "signer.toml").read_text()

    drilled = jitgate(world, "backup", "drill", str(file), "--passphrase-file", "-")
    assert drilled.returncode == 0, drilled.stderr
    assert "hosts that were not told of it yet: db1 web1" in drilled.stderr
    for name in world.hosts:
        tell(world, name)
    drilled = jitgate(world, "backup", "drill", str(file), "--passphrase-file", "-")
    assert "not told" not in drilled.stderr
    for host in world.hosts.values():
        assert "drill" not in host.log_text()

    brought = jitgate(world, "backup", "bring", str(file), "--passphrase-file", "-")
    assert brought.returncode == 0, brought.stderr
    name = brought.stdout.strip()
    until = time.monotonic() + PATIENCE_S
    while not any(row["file"] == name for row in operate(world.settings, "ca ls", {})["keys"]):
        assert time.monotonic() < until
        time.sleep(0.2)
    begun = jitgate(world, "rotate", "start", "--kind", "user", "--key", name, "--emergency", "--reason", "stolen")
    assert begun.returncode == 0, begun.stderr
    # no host was told of anything: they trusted it before
    done = alice.jitctl("vm", "connect", "ubuntu@web1", "--", "echo $USER")
    assert done.stdout == "ubuntu\n"
    used = {parse_certificate_line(path.read_text()).body.ca.fingerprint for path in _certificates(alice.state)}
    assert backup in used


def _certificates(state: Path) -> list[Path]:
    return list((state / "certs").glob("*/*-cert.pub"))


@pytest.mark.parametrize("kind", [CaKind.USER, CaKind.HOST])
def test_a_drill_of_a_key_that_nobody_trusts_fails(programs: Mapping[str, Path], kind: CaKind):
    assert programs
    key, other = generate_ed25519(), generate_ed25519()
    drill(key, kind, "default", [key.public, other.public], [])
    with pytest.raises(Unreachable, match="what the key signs is not taken"):
        drill(key, kind, "default", [other.public], [])


def test_a_backup_that_would_lie_beside_the_signers_keys_is_refused(world: World):
    file = world.settings.keys_folder / "user_ca-backup"
    made = jitgate(world, "backup", "make", str(file), "--kind", "user", "--passphrase-file", "-")
    assert made.returncode == 1
    assert "goes offline" in made.stderr
    assert not file.exists()
